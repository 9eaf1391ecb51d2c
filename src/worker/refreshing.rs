//! Step: lets results be computed anew before they are too old, in processes that are connected as the roles of the sessions that
//! asked.
//!
//! There are as many of them in the cluster as there may be workers, and of one role's sessions one: so one slow function does not hold
//! up those of others. A process ends after a while ([`crate::warming::refresher`]), and then it is the turn of who waits for longest.

use super::process::{self, Started};
use crate::compat;
use crate::settings;
use crate::store::area::Area;
use crate::store::posts::{self, Duty, Order};

/// Starts processes for what was asked. Without a free one it is tried again at the next turn.
pub fn run(area: Area) {
    let (database, requests) = (compat::database().to_u32(), area.refreshes());
    for (order, since) in area.posts().ended(database, Duty::Refreshing) {
        let since = since + settings::clock_offset_us();
        requests.give_up(database, Some((order.role.into(), since)));
    }
    requests.give_up(database, None);
    loop {
        let busy: Vec<_> = posts::present()
            .into_iter()
            .filter(|one| one.order.duty == Duty::Refreshing)
            .map(|one| one.order.role.into())
            .collect();
        if busy.len() >= settings::workers() {
            return;
        }
        let Some(role) = requests.next_role(database, &busy) else {
            return;
        };
        let order = Order {
            duty: Duty::Refreshing,
            database,
            role: role.to_u32(),
            job: 0,
        };
        let most = settings::workers();
        let started = process::start(area, order, |present| {
            let mut same = present
                .iter()
                .filter(|one| one.order.duty == Duty::Refreshing);
            same.clone().count() < most && !same.any(|one| one.order.role == order.role)
        });
        if started != Started::Comes {
            return;
        }
    }
}
