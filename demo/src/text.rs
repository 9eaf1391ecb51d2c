//! Numbers, times and sizes as people read them.

use std::time::Duration;

/// A time with two or three significant digits and a unit that fits it.
pub(crate) fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    let (value, unit) = if seconds < 1e-3 {
        (seconds * 1e6, "µs")
    } else if seconds < 1.0 {
        (seconds * 1e3, "ms")
    } else {
        (seconds, "s")
    };
    if value < 10.0 || unit == "s" && value < 100.0 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}

/// A number with separators between the thousands; anything else as it is.
pub(crate) fn number(value: impl ToString) -> String {
    let text = value.to_string();
    let (sign, rest) = text
        .strip_prefix('-')
        .map_or(("", text.as_str()), |rest| ("-", rest));
    let (whole, fraction) = rest.find('.').map_or((rest, ""), |dot| rest.split_at(dot));
    if whole.is_empty() || !whole.bytes().all(|byte| byte.is_ascii_digit()) {
        return text;
    }
    let mut grouped = String::with_capacity(text.len() + whole.len() / 3);
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{fraction}")
}

/// A number of bytes in the unit that fits it.
pub(crate) fn bytes(count: f64) -> String {
    const UNITS: [&str; 4] = ["bytes", "kB", "MB", "GB"];
    let mut value = count;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 100.0);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// How many times `small` fits into `large`.
pub(crate) fn ratio(large: Duration, small: Duration) -> String {
    let times = large.as_secs_f64() / small.as_secs_f64().max(1e-9);
    if times < 10.0 {
        format!("{times:.1} ×")
    } else {
        format!("{} ×", number(format!("{times:.0}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_that_fits() {
        let shown = [
            1_250,
            45_600,
            9_800_000,
            130_000_000,
            5_240_000_000,
            125_000_000_000,
        ]
        .map(|nanos| time(Duration::from_nanos(nanos)));
        assert_eq!(
            shown,
            ["1.2 µs", "46 µs", "9.8 ms", "130 ms", "5.2 s", "125 s"]
        );
    }

    #[test]
    fn thousands_are_separated() {
        let shown = ["7", "999", "1000", "-1234567.25", "1e5", "on"].map(number);
        assert_eq!(shown, ["7", "999", "1,000", "-1,234,567.25", "1e5", "on"]);
    }

    #[test]
    fn sizes_have_a_unit_that_fits() {
        let shown = [512.0, 2048.0, 67_108_864.0, 314_572_800.0].map(bytes);
        assert_eq!(shown, ["512 bytes", "2.0 kB", "64.0 MB", "300 MB"]);
    }

    #[test]
    fn ratios_are_short() {
        let ratio = |large| ratio(Duration::from_micros(large), Duration::from_micros(40));
        assert_eq!([ratio(60), ratio(120_000)], ["1.5 ×", "3,000 ×"]);
    }
}
