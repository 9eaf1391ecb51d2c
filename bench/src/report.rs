//! What is shown: tables on the terminal, and the generated part of `docs/benchmarks.md` with its plots beside it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::figure::{Figure, Verdict};
use crate::plot::{self, Plot};

/// Figures under a title.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    title: String,
    figures: Vec<Figure>,
    plots: Vec<Plot>,
    notes: Vec<String>,
}

impl Section {
    /// A section without plots.
    pub(crate) fn new(title: impl Into<String>, figures: Vec<Figure>) -> Self {
        Section {
            title: title.into(),
            figures,
            plots: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Judges by ratios and counts only: how long something takes says nothing about a machine that nobody knows.
    pub(crate) fn forget_times(&mut self) {
        for figure in &mut self.figures {
            figure.goal = figure.goal.filter(|_| !figure.unit.is_time());
        }
    }

    /// Adds a plot.
    pub(crate) fn plot(mut self, plot: Plot) -> Self {
        self.plots.push(plot);
        self
    }

    /// Adds a paragraph: what was not measured and why, or what has to be known to read the figures.
    pub(crate) fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }
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

const HEADINGS: [&str; 6] = ["", "median", "middle half", "rounds", "goal", ""];
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/benchmarks.md");
/// The folder of the plots, beside the page; and where a run that does not write the page leaves them.
pub(crate) const PLOTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/benchmarks");
const OTHER_PLOTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/benchmarks");
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
        let rows: Vec<[String; 6]> = self
            .sections
            .iter()
            .flat_map(|section| &section.figures)
            .map(|figure| figure.cells(self.margin))
            .chain([HEADINGS.map(str::to_owned)])
            .collect();
        let widths: [usize; 6] = std::array::from_fn(|column| {
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
            for note in &section.notes {
                let _ = writeln!(text, "  {note}");
            }
        }
        text
    }

    fn markdown(&self) -> String {
        let mut text = String::from("```sh\nmake bench\n```\n\n| | |\n|---|---|\n");
        for (name, value) in &self.environment {
            let _ = writeln!(text, "| {name} | {value} |");
        }
        text.push_str(&self.summary());
        for section in &self.sections {
            let _ = writeln!(text, "\n### {}\n", section.title);
            text.push_str(
                "| | median | middle half | rounds | goal | |\n|---|--:|--:|--:|--:|---|\n",
            );
            for figure in &section.figures {
                let _ = writeln!(text, "| {} |", figure.cells(self.margin).join(" | "));
            }
            for plot in &section.plots {
                let _ = write!(
                    text,
                    "\n![{}](benchmarks/{}.svg)\n",
                    plot.title(),
                    plot.name
                );
            }
            for note in &section.notes {
                let _ = write!(text, "\n{note}\n");
            }
        }
        text.push_str(&flame_graphs(Path::new(PLOTS)));
        text
    }

    /// All figures that have a goal, from all sections.
    fn summary(&self) -> String {
        let mut text = String::from(
            "\n### All goals\n\n| section | figure | goal | measured | |\n|---|---|--:|--:|---|\n",
        );
        for section in &self.sections {
            let with_goals = section
                .figures
                .iter()
                .filter(|figure| figure.goal.is_some());
            for (number, figure) in with_goals.enumerate() {
                let title = if number == 0 {
                    section.title.as_str()
                } else {
                    ""
                };
                let [what, median, _, _, goal, verdict] = figure.cells(self.margin);
                let _ = writeln!(text, "| {title} | {what} | {goal} | {median} | {verdict} |");
            }
        }
        text
    }

    /// Puts the figures into the page, in place of those of the last run, and the plots beside it.
    pub(crate) fn write_page(&self) -> Result<()> {
        self.write_plots(Path::new(PLOTS))?;
        let page = fs::read_to_string(PAGE).with_context(|| format!("cannot read {PAGE}"))?;
        let new = replaced(&page, &self.markdown())
            .with_context(|| format!("{PAGE} does not say where the figures go"))?;
        fs::write(PAGE, new).with_context(|| format!("cannot write {PAGE}"))
    }

    /// Leaves the plots of a run that does not write the page where they can be looked at; false if there are none.
    pub(crate) fn write_other_plots(&self) -> Result<bool> {
        let any = self
            .sections
            .iter()
            .any(|section| !section.plots.is_empty());
        if any {
            self.write_plots(Path::new(OTHER_PLOTS))?;
        }
        Ok(any)
    }

    fn write_plots(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for plot in self.sections.iter().flat_map(|section| &section.plots) {
            let file = folder.join(plot.name).with_extension("svg");
            fs::write(&file, plot::svg(plot)?)
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(())
    }
}

/// The flame graphs that there are: a run does not make them, but the page shows them.
fn flame_graphs(folder: &Path) -> String {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = files.filter_map(|file| file.file_name().into_string().ok());
    let mut names: Vec<String> = names
        .filter(|name| name.starts_with("flame-") && name.ends_with(".svg"))
        .collect();
    // What was before, before what is after.
    names.sort_by(|a, b| b.cmp(a));
    if names.is_empty() {
        return String::new();
    }
    let mut text = String::from("\n### Where the time of a session goes that answers hits\n");
    for name in names {
        let title = name.trim_start_matches("flame-").trim_end_matches(".svg");
        let _ = write!(text, "\n![flame graph: {title}](benchmarks/{name})\n");
    }
    text
}

/// The page with another generated part.
fn replaced(page: &str, generated: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{generated}\n{END}{after}"))
}

/// One line: the first and the last column to the left, figures to the right.
fn line(row: &[String; 6], widths: &[usize; 6]) -> String {
    let mut text = String::from(" ");
    for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
        let _ = match column {
            0 | 5 => write!(text, " {cell:<width$} "),
            _ => write!(text, " {cell:>width$} "),
        };
    }
    format!("{}\n", text.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::{Goal, Unit};
    use crate::sample::Sample;

    #[test]
    fn the_summary_has_each_goal_once() {
        let sample = Sample::of(vec![0.9]);
        let figures = vec![
            Figure::new("rate", &sample, Unit::Tps),
            Figure::new("hit ÷ floor", &sample, Unit::Ratio).goal(Goal::AtLeast(0.95)),
        ];
        let report = Report {
            environment: Vec::new(),
            sections: vec![Section::new("Hits", figures).note("a note")],
            margin: 0.01,
        };
        let row = "| Hits | hit ÷ floor | ≥ 0.950 × | 0.900 × | missed |";
        assert_eq!(
            report
                .summary()
                .lines()
                .filter(|line| line.starts_with("| Hits"))
                .collect::<Vec<_>>(),
            [row]
        );
        assert!(report.markdown().contains("\na note\n") && report.text().contains("a note"));
    }

    #[test]
    fn flame_graphs_are_shown_if_there_are_any() {
        let folder = std::env::temp_dir().join(format!("pgqc-flames-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        assert_eq!(flame_graphs(&folder), "");
        for name in ["flame-after.svg", "peers.svg", "flame-before.svg"] {
            fs::write(folder.join(name), "").unwrap();
        }
        let text = flame_graphs(&folder);
        fs::remove_dir_all(&folder).unwrap();
        let shown: Vec<&str> = text.lines().filter(|line| line.starts_with('!')).collect();
        assert_eq!(
            shown,
            [
                "![flame graph: before](benchmarks/flame-before.svg)",
                "![flame graph: after](benchmarks/flame-after.svg)"
            ]
        );
    }

    #[test]
    fn only_the_generated_part_is_replaced() {
        let page = format!("head\n{BEGIN}old\n{END}tail\n");
        let expected = format!("head\n{BEGIN}\nnew\n\n{END}tail\n");
        assert_eq!(replaced(&page, "new\n"), Some(expected));
        assert_eq!(replaced("no marks", "new"), None);
    }
}
