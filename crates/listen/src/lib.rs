//! What a server takes connections with, whatever it serves: TLS ([`Tls`], [`Connection`]), who may ask ([`Logins`]), and under
//! which names of hosts ([`Hosts`]).
//!
//! It knows nothing of requests: it is handed what a client sent as its login or as the host, and says whose it is.

mod error;
mod hosts;
mod logins;
mod network;
mod tls;
mod turns;

pub use error::{Error, No, Strange};
pub use hosts::Hosts;
pub use logins::Logins;
pub use network::network;
pub use tls::{Connection, Tls, Wants};
