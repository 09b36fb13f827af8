//! What counts as one client by its address.

use std::net::IpAddr;

/// What one client has of an address: whoever has one of IPv6 has all of its /64.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
        },
        v4 => v4,
    }
}
