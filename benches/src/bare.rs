//! The bare pipeline: the way of a task with nothing but the servers in it. No envelope, no attempts, no fences, no
//! leases that are renewed, one kind of task, a fixed size. What it reaches is what an engine over the same servers could
//! reach if it cost nothing.

pub mod callers;
pub mod channel;
mod consume;
pub mod limits;
pub mod pipeline;
mod produce;
mod tables;
