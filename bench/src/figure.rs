//! A measured figure beside its goal.

use crate::sample::{Sample, Spread};

/// How a figure is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Transactions per second.
    Tps,
    /// One thing divided by another.
    Ratio,
    /// Nanoseconds.
    Ns,
    /// Microseconds.
    Us,
    /// Milliseconds.
    Ms,
    /// Percentage points.
    Points,
    /// Seconds.
    S,
    /// Bytes.
    Bytes,
    /// A number of things.
    Count,
}

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Goal {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

/// How a figure compares with its goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There is no goal.
    NoGoal,
    /// The median meets it.
    Met,
    /// The median does not, but part of the middle half does, or it is within the margin.
    Close,
    /// Missed by more than noise explains.
    Missed,
}

/// A figure.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// What was measured.
    pub(crate) what: String,
    /// What came out.
    pub(crate) value: Spread,
    /// Its unit.
    pub(crate) unit: Unit,
    /// What it should be.
    pub(crate) goal: Option<Goal>,
}

impl Figure {
    /// A figure without a goal.
    pub(crate) fn new(what: impl Into<String>, sample: &Sample, unit: Unit) -> Self {
        Figure {
            what: what.into(),
            value: sample.spread(),
            unit,
            goal: None,
        }
    }

    /// Its goal.
    pub(crate) fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    /// How it compares; `margin` is a share of the goal.
    pub(crate) fn verdict(&self, margin: f64) -> Verdict {
        let (met, missed) = match self.goal {
            None => return Verdict::NoGoal,
            Some(Goal::AtLeast(goal)) => (
                self.value.median >= goal,
                self.value.high < goal * (1.0 - margin),
            ),
            Some(Goal::AtMost(goal)) => (
                self.value.median <= goal,
                self.value.low > goal * (1.0 + margin),
            ),
        };
        match (met, missed) {
            (true, _) => Verdict::Met,
            (false, true) => Verdict::Missed,
            (false, false) => Verdict::Close,
        }
    }

    /// The cells of its row: what, median, spread, rounds, goal, verdict.
    pub(crate) fn cells(&self, margin: f64) -> [String; 6] {
        let goal = match self.goal {
            Some(Goal::AtLeast(goal)) => format!("≥ {}", self.unit.text(goal)),
            Some(Goal::AtMost(goal)) => format!("≤ {}", self.unit.text(goal)),
            None => String::new(),
        };
        let verdict = match self.verdict(margin) {
            Verdict::NoGoal => "",
            Verdict::Met => "met",
            Verdict::Close => "close",
            Verdict::Missed => "missed",
        };
        let spread = format!(
            "{} … {}",
            self.unit.number(self.value.low),
            self.unit.number(self.value.high)
        );
        let once = self.value.rounds < 2;
        [
            self.what.clone(),
            self.unit.text(self.value.median),
            if once { String::new() } else { spread },
            self.value.rounds.to_string(),
            goal,
            verdict.to_owned(),
        ]
    }
}

impl Unit {
    /// Whether it depends on how fast the machine is.
    pub(crate) fn is_time(self) -> bool {
        match self {
            Unit::Tps | Unit::Ns | Unit::Us | Unit::Ms | Unit::S => true,
            Unit::Ratio | Unit::Points | Unit::Bytes | Unit::Count => false,
        }
    }

    fn number(self, value: f64) -> String {
        match self {
            Unit::Tps | Unit::Bytes | Unit::Count => grouped(value),
            Unit::Ratio if value >= 10.0 => format!("{value:.1}"),
            Unit::Ratio => format!("{value:.3}"),
            Unit::Us if value >= 100.0 => format!("{value:.0}"),
            Unit::Us => format!("{value:.2}"),
            Unit::Ms => format!("{value:.0}"),
            Unit::Points => format!("{value:.2}"),
            Unit::Ns => format!("{value:.1}"),
            Unit::S => format!("{value:.2}"),
        }
    }

    fn text(self, value: f64) -> String {
        let unit = match self {
            Unit::Tps => "/s",
            Unit::Ratio => "×",
            Unit::Ns => "ns",
            Unit::Us => "µs",
            Unit::Ms => "ms",
            Unit::Points => "points",
            Unit::S => "s",
            Unit::Bytes => "B",
            Unit::Count => "",
        };
        format!("{} {unit}", self.number(value))
            .trim_end()
            .to_owned()
    }
}

/// A whole number with its thousands apart.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && digit.is_ascii_digit() && (digits.len() - i) % 3 == 0 && text != "-" {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(low: f64, median: f64, high: f64, goal: Goal) -> Figure {
        Figure {
            what: String::new(),
            value: Spread {
                low,
                median,
                high,
                rounds: 3,
            },
            unit: Unit::Ratio,
            goal: Some(goal),
        }
    }

    #[test]
    fn only_what_noise_does_not_explain_is_missed() {
        let at_least =
            |low, median, high| figure(low, median, high, Goal::AtLeast(1.0)).verdict(0.1);
        assert_eq!(at_least(0.8, 1.0, 1.1), Verdict::Met);
        assert_eq!(at_least(0.8, 0.85, 0.95), Verdict::Close);
        assert_eq!(at_least(0.7, 0.8, 0.85), Verdict::Missed);
        let at_most = |low, median, high| figure(low, median, high, Goal::AtMost(1.0)).verdict(0.1);
        assert_eq!(at_most(1.05, 1.2, 1.3), Verdict::Close);
        assert_eq!(at_most(1.2, 1.3, 1.4), Verdict::Missed);
    }

    #[test]
    fn thousands_are_apart() {
        assert_eq!(grouped(1_234_567.4), "1,234,567");
        assert_eq!(grouped(999.0), "999");
        assert_eq!(grouped(-123_456.0), "-123,456");
    }
}
