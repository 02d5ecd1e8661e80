//! The rules one by one, by subject, and a model that all of them together hold.

mod bench;
mod describing;
mod joining;
mod leaving;
mod limits;
mod model;
mod news;
mod sessions;
mod static_members;
mod syncing;
