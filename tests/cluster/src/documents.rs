//! Documentation that runs: the SQL of a page, statement by statement, and what the page says comes of it.
//!
//! A page is a story in one session of psql. Its blocks ` ```sql ` are run in their order; a block ` ```text ` that follows is what
//! psql prints for the block before it, errors included. A block without one prints nothing. What a reader need not see (roles,
//! tables, rows) stands in a comment, `<!-- sql` to `-->`, and prints nothing either.
//!
//! Points in time, durations to the microsecond, process and transaction ids of an output are examples: any other is as good. So is
//! the width of columns, which follows from them. For whatever else differs from run to run the page shows `…`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;
use std::sync::LazyLock;

use anyhow::{Context, Result, ensure};
use pg_query_cache_harness::Cluster;
use regex::Regex;

/// Stands for anything within a line of an output; in a line of its own for any number of lines.
const ANYTHING: char = '…';
/// Printed before the output of each block.
const MARK: &str = "---- block";

/// SQL of a page, and what comes of it.
#[derive(Debug)]
struct Block {
    /// The line of the page where it begins, from 1.
    line: usize,
    sql: String,
    /// What the page shows, and the lines of the page between which it stands.
    output: Option<(String, std::ops::Range<usize>)>,
}

/// The blocks of a page.
fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let end = match line.trim() {
            "```sql" | "```text" => "```",
            "<!-- sql" => "-->",
            _ => continue,
        };
        let indent = line.len() - line.trim_start().len();
        let mut body = String::new();
        let mut last = number;
        for (number, line) in lines.by_ref() {
            last = number;
            if line.trim() == end {
                break;
            }
            body.push_str(line.get(indent..).unwrap_or_default());
            body.push('\n');
        }
        if line.trim() != "```text" {
            blocks.push(Block {
                line: number + 1,
                sql: body,
                output: None,
            });
        } else if let Some(block) = blocks.last_mut()
            && block.output.is_none()
        {
            block.output = Some((body, number + 1..last));
        }
    }
    blocks
}

/// Runs the blocks in one session of psql; what each printed.
fn run(cluster: &Cluster, database: &str, blocks: &[Block]) -> Result<Vec<String>> {
    let mut script = String::from("\\set QUIET on\nSET client_min_messages = warning;\n");
    for block in blocks {
        writeln!(script, "\\echo {MARK}\n{}", block.sql)?;
    }
    // Errors in their place among the results: one pipe for both.
    let (mut reader, writer) = std::io::pipe()?;
    let mut psql = cluster
        .program("psql")
        .args(["-X", "-d", database])
        .stdin(Stdio::piped())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()?;
    let mut input = psql.stdin.take().context("psql has no input")?;
    let feeder = std::thread::spawn(move || input.write_all(script.as_bytes()));
    let mut printed = String::new();
    std::io::Read::read_to_string(&mut reader, &mut printed)?;
    psql.wait()?;
    feeder.join().ok().context("psql was not fed")??;
    let mut outputs: Vec<String> = printed
        .split(&format!("{MARK}\n"))
        .map(|text| {
            text.lines()
                .map(|line| line.trim_end().to_owned() + "\n")
                .collect::<String>()
                .trim_end_matches('\n')
                .to_owned()
                + "\n"
        })
        .map(|text| if text == "\n" { String::new() } else { text })
        .collect();
    ensure!(
        outputs.len() == blocks.len() + 1,
        "psql printed {} outputs for {} blocks:\n{printed}",
        outputs.len() - 1,
        blocks.len()
    );
    outputs.remove(0);
    Ok(outputs)
}

/// A line with its examples replaced by their kind.
#[allow(clippy::expect_used, reason = "the patterns are constants")]
fn kind_of(line: &str) -> String {
    static EXAMPLES: LazyLock<[(Regex, &str); 4]> = LazyLock::new(|| {
        [
            (
                r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?([+-]\d\d(:\d\d)?)?",
                "<time>",
            ),
            (r"\d\d:\d\d:\d\d\.\d+", "<duration>"),
            (r#""(pid|xid)": \d+"#, "<id>"),
            (r"[-+]{3,}|\s+", " "),
        ]
        .map(|(pattern, kind)| (Regex::new(pattern).expect("a pattern"), kind))
    });
    let kinds = EXAMPLES
        .iter()
        .fold(line.to_owned(), |line, (pattern, kind)| {
            pattern.replace_all(&line, *kind).into_owned()
        });
    kinds.trim().to_owned()
}

/// Whether a line is what the page shows, in which [`ANYTHING`] stands for anything.
fn line_fits(shown: &str, line: &str) -> bool {
    let mut parts = shown.split(ANYTHING);
    let Some(mut rest) = parts.next().and_then(|first| line.strip_prefix(first)) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Whether an output is what the page shows.
fn fits(shown: &str, printed: &str) -> bool {
    fn lines_fit(shown: &[&str], printed: &[&str]) -> bool {
        match (shown.split_first(), printed.split_first()) {
            (None, None) => true,
            (Some((first, others)), _) if *first == "…" => {
                (0..=printed.len()).any(|skipped| lines_fit(others, &printed[skipped..]))
            }
            (Some((first, others)), Some((line, more))) => {
                line_fits(first, line) && lines_fit(others, more)
            }
            _ => false,
        }
    }
    let (shown, printed): (Vec<_>, Vec<_>) = (
        shown.lines().map(kind_of).collect(),
        printed.lines().map(kind_of).collect(),
    );
    lines_fit(
        &shown.iter().map(String::as_str).collect::<Vec<_>>(),
        &printed.iter().map(String::as_str).collect::<Vec<_>>(),
    )
}

/// Runs a page. What it shows and the server does not, block by block; empty if all is as it says.
///
/// # Errors
/// If psql cannot be run.
pub fn differences(cluster: &Cluster, database: &str, page: &str) -> Result<String> {
    let blocks = blocks(page);
    ensure!(!blocks.is_empty(), "the page has no SQL");
    let mut differences = String::new();
    for (block, printed) in blocks.iter().zip(run(cluster, database, &blocks)?) {
        let shown = block.output.as_ref().map_or("", |(shown, _)| shown);
        if !fits(shown, &printed) {
            writeln!(
                differences,
                "line {}:\n{}-- the page shows:\n{shown}-- psql prints:\n{printed}",
                block.line, block.sql
            )?;
        }
    }
    Ok(differences)
}

/// The page with what psql prints in place of what it shows wherever the two differ.
///
/// # Errors
/// If psql cannot be run.
pub fn rewritten(cluster: &Cluster, database: &str, page: &str) -> Result<String> {
    let blocks = blocks(page);
    let mut lines: Vec<String> = page.lines().map(|line| line.to_owned() + "\n").collect();
    for (block, printed) in blocks.iter().zip(run(cluster, database, &blocks)?).rev() {
        if let Some((shown, place)) = &block.output
            && !fits(shown, &printed)
        {
            lines.splice(place.clone(), [printed]);
        }
    }
    Ok(lines.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_compared_line_by_line() {
        assert!(fits("a\nb 7 c\n", "a\nb 7 c\n"));
        assert!(fits("a\nb … c\n", "a\nb 7 c\n"));
        assert!(fits("a…\n…\nz\n", "abc\n1\n2\nz\n"));
        assert!(fits("…\n", ""));
        assert!(!fits("a\n", "a\nb\n"));
        assert!(!fits("", "a\n"));
        assert!(!fits("a … c … e\n", "a b c d\n"));
        assert!(!fits("a…\n", "ba\n"));
        assert!(fits(
            " 2026-11-20 18:39:52.202984+00 | 00:00:00.5 | {\"pid\": 7}\n----+---\n",
            "   2027-01-02 00:00:00.1+01   | 00:01:02.000667 | {\"pid\": 12345}\n------+------\n"
        ));
        assert!(!fits("00:10:00\n", "00:20:00\n"));
    }

    #[test]
    fn a_page_is_split_into_blocks() {
        let page = "x\n<!-- sql\nSETUP;\n-->\n```sql\nONE;\n```\n\nwords\n```text\n1\n```\n```text\nno output\n```\n```sh\nmake\n```\n";
        let found: Vec<(usize, String, Option<String>)> = blocks(page)
            .into_iter()
            .map(|block| (block.line, block.sql, block.output.map(|(text, _)| text)))
            .collect();
        assert_eq!(
            found,
            [
                (2, "SETUP;\n".to_owned(), None),
                (5, "ONE;\n".to_owned(), Some("1\n".to_owned())),
            ]
        );
    }
}
