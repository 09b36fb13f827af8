//! What a server takes connections with, whatever it serves: TLS ([`Tls`], [`Connection`]), and who may ask ([`Logins`]).
//!
//! It knows nothing of requests: it is handed what a client sent as its login, and says whose it is.

mod error;
mod logins;
mod network;
mod tls;
mod turns;

pub use error::{Error, No};
pub use logins::Logins;
pub use network::network;
pub use tls::{Connection, Tls, Wants};
