//! goflow, as an application uses it: the library here, a worker in a process of its own, or a gateway in front.

mod deployment;
pub mod gateway;
pub mod local;
pub mod push;
pub mod work;

pub(crate) use deployment::{Deployment, Gateways, engine};
pub(crate) use gateway::request;
