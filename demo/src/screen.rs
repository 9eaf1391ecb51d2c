//! What the terminal shows: headings, statements, claims with their verdict, tables, progress.
//!
//! Every claim of the tour goes through [`Screen::check`] or [`Screen::expect`], which count; the exit status of the
//! program is what they counted.

use std::cell::Cell;
use std::fmt::Display;
use std::io::Read;
use std::time::Duration;

use anyhow::Error;
use console::{Alignment, Term, measure_text_width, pad_str, style, truncate_str};
use indicatif::{ProgressBar, ProgressStyle};
use pg_query_cache_harness::postgres;

use crate::text;

/// Lines are not longer than this even if the terminal is.
const WIDEST: usize = 110;

/// And tables do not shrink below this even if the terminal does.
const NARROWEST: usize = 60;

/// The terminal, and the tally of what was claimed.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    held: Cell<usize>,
    failed: Cell<usize>,
}

impl Screen {
    /// Colour is used if the terminal has it, the user wants it and `NO_COLOR` is not set.
    pub(crate) fn new(color: bool) -> Self {
        let unwanted =
            !color || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if unwanted {
            console::set_colors_enabled(false);
            console::set_colors_enabled_stderr(false);
        }
        Self::default()
    }

    /// How many claims held, and how many did not.
    pub(crate) fn tally(&self) -> (usize, usize) {
        (self.held.get(), self.failed.get())
    }

    /// A chapter.
    pub(crate) fn heading(&self, text: &str) {
        println!("\n{}", style(text).bold());
    }

    /// A plain line.
    pub(crate) fn say(&self, text: impl Display) {
        println!("  {text}");
    }

    /// A line of less weight.
    pub(crate) fn note(&self, text: impl Display) {
        println!("  {}", style(text).dim());
    }

    /// An SQL statement, as one would type it; a long one goes on in the next line.
    pub(crate) fn statement(&self, sql: &str) {
        for (index, line) in wrap(sql, width() - 9).iter().enumerate() {
            let prompt = if index == 0 { "demo=#" } else { "demo-#" };
            println!("  {} {}", style(prompt).dim(), style(line).cyan());
        }
    }

    /// A claim that is proved by having come here; the time on the right.
    pub(crate) fn done(&self, claim: impl Display, took: Duration) {
        self.held.set(self.held.get() + 1);
        let claim = claim.to_string();
        let time = text::time(took);
        let gap = width().saturating_sub(4 + measure_text_width(&claim) + time.len());
        println!(
            "  {} {claim}{}{}",
            style("✓").green(),
            " ".repeat(gap.max(2)),
            style(time).dim()
        );
    }

    /// A claim and whether it holds.
    pub(crate) fn check(
        &self,
        claim: impl Display,
        holds: bool,
        expected: impl Display,
        got: impl Display,
    ) {
        if holds {
            self.held.set(self.held.get() + 1);
            println!("  {} {claim}", style("✓").green());
        } else {
            self.failed.set(self.failed.get() + 1);
            println!("  {} {}", style("✗").red().bold(), style(claim).red());
            println!("      expected  {expected}");
            println!("      got       {got}");
        }
    }

    /// The claim that two values are the same.
    pub(crate) fn expect<T: PartialEq + Display>(&self, claim: impl Display, expected: T, got: T) {
        let holds = expected == got;
        self.check(claim, holds, expected, got);
    }

    /// What stopped a step.
    pub(crate) fn error(&self, step: &str, error: &Error) {
        self.failed.set(self.failed.get() + 1);
        println!("  {} {}", style("✗").red().bold(), style(step).red());
        for line in explain(error).lines() {
            println!("      {line}");
        }
    }

    /// A table; columns that hold only numbers are aligned to the right. Cells are shortened until it fits.
    pub(crate) fn table(&self, header: &[String], rows: &[Vec<String>]) {
        let mut widths: Vec<usize> = header.iter().map(|cell| measure_text_width(cell)).collect();
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(measure_text_width(cell));
            }
        }
        fit(&mut widths, width().saturating_sub(2));
        let right: Vec<bool> = (0..widths.len())
            .map(|column| {
                let mut cells = rows
                    .iter()
                    .filter_map(|row| row.get(column))
                    .filter(|cell| !cell.is_empty())
                    .peekable();
                cells.peek().is_some()
                    && cells.all(|cell| cell.starts_with(|c: char| c.is_ascii_digit() || c == '-'))
            })
            .collect();
        let line = |cells: &[String]| {
            let mut line = String::new();
            for ((cell, width), right) in cells.iter().zip(&widths).zip(&right) {
                let alignment = if *right {
                    Alignment::Right
                } else {
                    Alignment::Left
                };
                line.push_str(&pad_str(
                    &truncate_str(cell, *width, "…"),
                    *width,
                    alignment,
                    None,
                ));
                line.push_str("  ");
            }
            line.trim_end().to_owned()
        };
        println!("  {}", style(line(header)).underlined());
        for row in rows {
            println!("  {}", line(row));
        }
    }

    /// Names with their values, several to a line.
    pub(crate) fn pairs(&self, pairs: &[(String, String)]) {
        let name_width = pairs
            .iter()
            .map(|(name, _)| measure_text_width(name))
            .max()
            .unwrap_or(0);
        let value_width = pairs
            .iter()
            .map(|(_, value)| measure_text_width(value))
            .max()
            .unwrap_or(0);
        let across = ((width() - 2) / (name_width + value_width + 6)).max(1);
        let down = pairs.len().div_ceil(across).max(1);
        for row in 0..down {
            let line: Vec<String> = pairs
                .iter()
                .skip(row)
                .step_by(down)
                .map(|(name, value)| {
                    let name = pad_str(name, name_width, Alignment::Left, None);
                    format!(
                        "{}  {}",
                        style(name).dim(),
                        pad_str(value, value_width, Alignment::Right, None)
                    )
                })
                .collect();
            println!("  {}", line.join("    "));
        }
    }

    /// Something that takes a while; without a terminal it shows nothing until it is done.
    pub(crate) fn progress(&self, what: &str) -> Progress {
        let bar = ProgressBar::new_spinner().with_message(what.to_owned());
        if let Ok(shape) = ProgressStyle::with_template("  {spinner:.cyan} {msg}  {elapsed:.dim}") {
            bar.set_style(shape);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Progress(bar)
    }
}

/// A line that moves while something runs; gone when dropped.
#[derive(Clone, Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Says what is going on now.
    pub(crate) fn now(&self, what: impl Into<String>) {
        self.0.set_message(what.into());
    }

    /// A reader of `length` bytes whose progress is shown as a bar.
    pub(crate) fn reading<R: Read>(&self, reader: R, length: u64) -> impl Read {
        self.0.set_length(length);
        self.0.set_position(0);
        if let Ok(shape) = ProgressStyle::with_template(
            "  {spinner:.cyan} {msg}  {wide_bar:.cyan/dim} {percent:>3} %",
        ) {
            self.0.set_style(shape);
        }
        self.0.wrap_read(reader)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// An error with its causes; what the server said in the words of psql.
pub(crate) fn explain(error: &Error) -> String {
    let mut text = Vec::new();
    for cause in error.chain() {
        match cause
            .downcast_ref::<postgres::Error>()
            .and_then(postgres::Error::as_db_error)
        {
            Some(server) => {
                text.push(format!(
                    "{}: {} ({})",
                    server.severity(),
                    server.message(),
                    server.code().code()
                ));
                text.extend(server.detail().map(|detail| format!("DETAIL: {detail}")));
                text.extend(server.hint().map(|hint| format!("HINT: {hint}")));
                break;
            }
            None => text.push(cause.to_string()),
        }
    }
    text.join("\n")
}

fn width() -> usize {
    let columns = Term::stdout()
        .size_checked()
        .map_or(100, |(_, columns)| usize::from(columns));
    columns.clamp(NARROWEST, WIDEST)
}

/// Lines of at most so many characters, broken between words.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if measure_text_width(line) + 1 + measure_text_width(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Takes from the widest columns until all of them fit, two spaces between them.
fn fit(widths: &mut [usize], available: usize) {
    let available = available.saturating_sub(2 * widths.len().saturating_sub(1));
    while widths.iter().sum::<usize>() > available {
        match widths.iter_mut().max() {
            Some(widest) if *widest > 4 => *widest -= 1,
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_columns_give_way() {
        let mut widths = [10, 60, 50];
        fit(&mut widths, 74);
        assert_eq!(widths, [10, 30, 30]);
        let mut widths = [4, 4];
        fit(&mut widths, 3);
        assert_eq!(widths, [4, 4]);
    }

    #[test]
    fn long_statements_are_broken_between_words() {
        assert_eq!(wrap("SELECT a, b FROM t", 11), ["SELECT a, b", "FROM t"]);
        assert_eq!(wrap("SELECT", 3), ["SELECT"]);
    }

    #[test]
    fn claims_are_counted() {
        let screen = Screen::new(false);
        screen.expect("holds", 1, 1);
        screen.expect("does not", 1, 2);
        screen.error("stopped", &anyhow::anyhow!("why"));
        assert_eq!(screen.tally(), (1, 2));
    }
}
