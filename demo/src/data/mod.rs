//! The data of the tour: real flights, and a marketplace made up on the spot.

pub(crate) mod flights;
pub(crate) mod marketplace;
