//! The data of the tour: real flights; a marketplace and contacts made up on the spot.

pub(crate) mod contacts;
pub(crate) mod flights;
pub(crate) mod marketplace;
