//! A plot that a section carries: what is to be seen, without how it is drawn.

#![allow(
    dead_code,
    reason = "not all of it is used by the sections that there are yet"
)]

mod draw;
mod ticks;

pub(crate) use draw::svg;

/// Lines over a quantity, or bars over names.
#[derive(Clone, Debug)]
pub(crate) struct Plot {
    /// The name of its file, without the suffix.
    pub(crate) name: &'static str,
    /// Stands above it.
    title: String,
    /// What the values are, with their unit.
    values: String,
    /// Where the axis of values begins: zero, unless the differences could not be seen so.
    from: f64,
    /// A line that the values should keep to, and what it is called.
    goal: Option<(f64, String)>,
    /// What is drawn.
    marks: Marks,
}

/// What is drawn.
#[derive(Clone, Debug)]
enum Marks {
    Lines {
        /// What runs along the axis below, with its unit.
        along: String,
        scale: Scale,
        lines: Vec<Line>,
    },
    Bars {
        /// The names of the bars of each group.
        series: Vec<String>,
        /// A group of bars, with a value per series; one that was not measured is NaN.
        groups: Vec<(String, Vec<f64>)>,
    },
}

/// A named line through points.
#[derive(Clone, Debug)]
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// How the quantity below the lines runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Evenly.
    Linear,
    /// By factors.
    Log,
}

impl Plot {
    /// Lines of `values` over `along`; [`Plot::line`] adds them.
    pub(crate) fn lines(
        name: &'static str,
        title: impl Into<String>,
        along: impl Into<String>,
        scale: Scale,
        values: impl Into<String>,
    ) -> Self {
        let marks = Marks::Lines {
            along: along.into(),
            scale,
            lines: Vec::new(),
        };
        Plot::new(name, title, values, marks)
    }

    /// Horizontal bars of `values`, each group one per series; [`Plot::group`] adds them.
    pub(crate) fn bars<S: Into<String>>(
        name: &'static str,
        title: impl Into<String>,
        series: impl IntoIterator<Item = S>,
        values: impl Into<String>,
    ) -> Self {
        let marks = Marks::Bars {
            series: series.into_iter().map(Into::into).collect(),
            groups: Vec::new(),
        };
        Plot::new(name, title, values, marks)
    }

    fn new(
        name: &'static str,
        title: impl Into<String>,
        values: impl Into<String>,
        marks: Marks,
    ) -> Self {
        Plot {
            name,
            title: title.into(),
            values: values.into(),
            from: 0.0,
            goal: None,
            marks,
        }
    }

    /// Adds a line. Has no meaning for bars.
    pub(crate) fn line(mut self, name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        if let Marks::Lines { lines, .. } = &mut self.marks {
            let name = name.into();
            lines.push(Line { name, points });
        }
        self
    }

    /// Adds a group of bars, a value per series. Has no meaning for lines.
    pub(crate) fn group(mut self, name: impl Into<String>, values: Vec<f64>) -> Self {
        if let Marks::Bars { groups, .. } = &mut self.marks {
            groups.push((name.into(), values));
        }
        self
    }

    /// A value that they should keep to.
    pub(crate) fn goal(mut self, value: f64, name: impl Into<String>) -> Self {
        self.goal = Some((value, name.into()));
        self
    }

    /// Where the axis of values begins.
    pub(crate) fn from(mut self, value: f64) -> Self {
        self.from = value;
        self
    }

    /// What stands above it, and for those who cannot see it.
    pub(crate) fn title(&self) -> &str {
        &self.title
    }

    /// The largest value that has to find a place.
    fn largest(&self) -> f64 {
        let drawn: Box<dyn Iterator<Item = f64> + '_> = match &self.marks {
            Marks::Lines { lines, .. } => Box::new(
                lines
                    .iter()
                    .flat_map(|line| line.points.iter().map(|(_, y)| *y)),
            ),
            Marks::Bars { groups, .. } => {
                Box::new(groups.iter().flat_map(|(_, values)| values.iter().copied()))
            }
        };
        drawn
            .chain(self.goal.iter().map(|(value, _)| *value))
            .filter(|value| value.is_finite())
            .fold(self.from, f64::max)
    }
}
