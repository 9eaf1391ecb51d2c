//! Makes a script shorter: leaves out more and more of its steps as long as the rest shows the same kind of difference.

use std::time::Instant;

use anyhow::Result;

use crate::play::{Difference, Pair};
use crate::script::Script;

/// The shortest script found until the time has come, and what it shows; `None` if the script shows it only now and then.
pub fn shrink(
    pair: &mut Pair,
    script: &Script,
    difference: &Difference,
    until: Instant,
) -> Result<Option<(Script, Difference)>> {
    let mut shortest = script.clone();
    shortest.steps.truncate(difference.step + 1);
    let Some(mut shown) = same(pair, &shortest, difference)? else {
        return Ok(None);
    };
    let mut changed = true;
    while changed && Instant::now() < until {
        changed = without_parts(
            pair,
            &mut shortest,
            &mut shown,
            until,
            |script| script.steps.len(),
            |script, from, to| drop(script.steps.drain(from..to)),
        )?;
        changed |= without_parts(
            pair,
            &mut shortest,
            &mut shown,
            until,
            |script| script.last.len(),
            |script, from, to| drop(script.last.drain(from..to)),
        )?;
        changed |= without_parts(
            pair,
            &mut shortest,
            &mut shown,
            until,
            |script| script.world.len(),
            |script, from, to| drop(script.world.drain(from..to)),
        )?;
    }
    Ok(Some((shortest, shown)))
}

/// Leaves out halves, quarters and so on of one of the script's lists; whether something could be left out.
fn without_parts(
    pair: &mut Pair,
    shortest: &mut Script,
    shown: &mut Difference,
    until: Instant,
    length: fn(&Script) -> usize,
    leave_out: fn(&mut Script, usize, usize),
) -> Result<bool> {
    let mut changed = false;
    let mut part = length(shortest).div_ceil(2);
    while part > 0 {
        let mut from = 0;
        while from < length(shortest) && Instant::now() < until {
            let mut shorter = shortest.clone();
            leave_out(&mut shorter, from, (from + part).min(length(shortest)));
            if let Some(found) = same(pair, &shorter, shown)? {
                *shortest = shorter;
                *shown = found;
                changed = true;
            } else {
                from += part;
            }
        }
        part /= 2;
    }
    Ok(changed)
}

/// What a script shows, if it is of that kind.
fn same(pair: &mut Pair, script: &Script, as_before: &Difference) -> Result<Option<Difference>> {
    let played = pair.play(script)?;
    Ok(played
        .difference
        .filter(|found| found.kind == as_before.kind))
}
