//! What is shown: tables on the terminal, and the generated part of `docs/benchmarks.md`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::figure::{Figure, Verdict};

/// Figures under a title.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    /// The title.
    pub(crate) title: String,
    /// The figures.
    pub(crate) figures: Vec<Figure>,
}

/// All that was measured.
pub(crate) struct Report {
    /// Where.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// What.
    pub(crate) sections: Vec<Section>,
    /// See [`Figure::verdict`].
    pub(crate) margin: f64,
}

const HEADINGS: [&str; 5] = ["", "median", "middle half", "goal", ""];
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/benchmarks.md");
const BEGIN: &str = "<!-- written by make bench: from here -->\n";
const END: &str = "<!-- written by make bench: to here -->\n";

impl Report {
    /// How many figures are clearly beyond their goals.
    pub(crate) fn missed(&self) -> usize {
        self.sections
            .iter()
            .flat_map(|section| &section.figures)
            .filter(|figure| figure.verdict(self.margin) == Verdict::Missed)
            .count()
    }

    /// For the terminal.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let width = self.environment.iter().map(|(name, _)| name.len()).max();
        for (name, value) in &self.environment {
            let _ = writeln!(text, "{name:width$}  {value}", width = width.unwrap_or(0));
        }
        let rows: Vec<[String; 5]> = self
            .sections
            .iter()
            .flat_map(|section| &section.figures)
            .map(|figure| figure.cells(self.margin))
            .chain([HEADINGS.map(str::to_owned)])
            .collect();
        let widths: [usize; 5] = std::array::from_fn(|column| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        });
        for section in &self.sections {
            let _ = writeln!(text, "\n{}", section.title);
            let figures = section
                .figures
                .iter()
                .map(|figure| figure.cells(self.margin));
            for row in [HEADINGS.map(str::to_owned)].into_iter().chain(figures) {
                text.push_str(&line(&row, &widths));
            }
        }
        text
    }

    fn markdown(&self) -> String {
        let mut text = String::from("```sh\nmake bench\n```\n\n| | |\n|---|---|\n");
        for (name, value) in &self.environment {
            let _ = writeln!(text, "| {name} | {value} |");
        }
        for section in &self.sections {
            let _ = write!(
                text,
                "\n### {}\n\n| | median | middle half | goal | |\n|---|--:|--:|--:|---|\n",
                section.title
            );
            for figure in &section.figures {
                let _ = writeln!(text, "| {} |", figure.cells(self.margin).join(" | "));
            }
        }
        text
    }

    /// Puts the figures into the page, in place of those of the last run.
    pub(crate) fn write_page(&self) -> Result<()> {
        let page = fs::read_to_string(PAGE).with_context(|| format!("cannot read {PAGE}"))?;
        let new = replaced(&page, &self.markdown())
            .with_context(|| format!("{PAGE} does not say where the figures go"))?;
        fs::write(Path::new(PAGE), new).with_context(|| format!("cannot write {PAGE}"))
    }
}

/// The page with another generated part.
fn replaced(page: &str, generated: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{generated}\n{END}{after}"))
}

/// One line: the first and the last column to the left, figures to the right.
fn line(row: &[String; 5], widths: &[usize; 5]) -> String {
    let mut text = String::from(" ");
    for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
        let _ = match column {
            0 | 4 => write!(text, " {cell:<width$} "),
            _ => write!(text, " {cell:>width$} "),
        };
    }
    format!("{}\n", text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_generated_part_is_replaced() {
        let page = format!("head\n{BEGIN}old\n{END}tail\n");
        let expected = format!("head\n{BEGIN}\nnew\n\n{END}tail\n");
        assert_eq!(replaced(&page, "new\n"), Some(expected));
        assert_eq!(replaced("no marks", "new"), None);
    }
}
