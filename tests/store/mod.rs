//! A store in this process, to which things happen, and chance that decides which.

#![allow(dead_code)] // Each test uses what it needs.

mod chance;
mod world;

pub use chance::Chance;
pub use world::{Sent, TraceId, World};
