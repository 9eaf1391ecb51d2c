//! Step: starts to track the tables that backends asked for, each in a transaction of its own.
//!
//! It is done as the owner of the cached function, with that role's rights and no others, as if it had said `cache_track_table`. A lock
//! that cannot be got soon is given up; the table then rests for a while, longer each time, until a call of the function asks again.

use crate::compat;
use crate::dependencies::automatic::{self, Became};
use crate::dependencies::rights;
use crate::dependencies::tree_locks::Patience;
use crate::settings;
use crate::store::area::{Area, TrackingRequest};

/// What is to be done in this database now.
pub fn waiting(area: Area) -> Vec<TrackingRequest> {
    if !settings::auto_track() {
        return Vec::new();
    }
    let database = compat::database().to_u32();
    area.tracking_requests().take(database, automatic::now())
}

/// Serves a request. In a transaction.
pub fn serve(area: Area, request: &TrackingRequest) {
    let Some(owner) = rights::owner_of_function(request.function.into()) else {
        return area.tracking_requests().served(request);
    };
    automatic::wait_shortly();
    let columns: Vec<String> = request.column().into_iter().collect();
    let became = automatic::track(area, request, owner, &columns, Patience::Shortly);
    if became == Became::Busy {
        automatic::failed_for_lock(area, request, owner);
    }
}
