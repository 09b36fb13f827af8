//! Why TLS did not come about, in words: what the server says in its alert, and what is wrong with its certificate.
//!
//! Sources: RFC 8446, section 6.2 (alerts); RFC 5280, section 6 (certificates).

use std::fmt;
use std::io;

use rustls::{AlertDescription as Alert, CertificateError, InvalidMessage};

/// Why the two sides of a connection don't agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// The server's certificate is not of an authority that is trusted here.
    Untrusted,
    /// The server shows the certificate of an authority as its own.
    Authority,
    /// The server's certificate is not good at this time.
    Time(&'static str),
    /// The server's certificate is for other names: those that it has.
    OtherName(Vec<String>),
    /// The server wants a certificate, or refuses the one it got.
    Client(&'static str),
    /// The server ended it for another reason, which it gave.
    Alert(&'static str),
    /// Anything else, in the words of the library.
    Other(String),
}

/// Who is meant by an alert.
enum About {
    /// The certificate of the client.
    Client,
    Other,
}

/// What servers mean by their alerts.
const ALERTS: &[(Alert, About, &str)] = &[
    (
        Alert::CertificateRequired,
        About::Client,
        "the server wants a certificate, and none was shown",
    ),
    (Alert::NoCertificate, About::Client, "the server wants a certificate, and none was shown"),
    (
        Alert::UnknownCA,
        About::Client,
        "the server does not know the authority of the certificate that it was shown",
    ),
    (
        Alert::BadCertificate,
        About::Client,
        "the server takes the certificate that it was shown for a bad one",
    ),
    (
        Alert::UnsupportedCertificate,
        About::Client,
        "the server does not take certificates of that kind",
    ),
    (
        Alert::CertificateRevoked,
        About::Client,
        "the certificate that the server was shown is revoked",
    ),
    (
        Alert::CertificateExpired,
        About::Client,
        "the certificate that the server was shown has expired",
    ),
    (
        Alert::CertificateUnknown,
        About::Client,
        "the server does not accept the certificate that it was shown",
    ),
    (
        Alert::AccessDenied,
        About::Client,
        "the server gives nothing to who shows this certificate, or none",
    ),
    (
        Alert::HandshakeFailure,
        About::Client,
        "the server ends the handshake: it has no cipher that is spoken here (TLS 1.2 and 1.3), or it wants a certificate",
    ),
    (
        Alert::InsufficientSecurity,
        About::Other,
        "the server wants stronger ciphers than are spoken here",
    ),
    (Alert::ProtocolVersion, About::Other, "the server speaks neither TLS 1.2 nor 1.3"),
    (Alert::UnrecognisedName, About::Other, "the server knows nothing of that host name"),
    (Alert::NoApplicationProtocol, About::Other, "the server speaks no HTTP there"),
    (Alert::InternalError, About::Other, "the server ends the handshake: it has failed itself"),
];

impl TlsFault {
    /// What is behind an error of the client library; nothing where it is not one of TLS.
    pub(super) fn of(error: &ureq::Error) -> Option<Self> {
        match error {
            ureq::Error::Rustls(error) => Some(Self::of_rustls(error)),
            ureq::Error::Tls(words) => Some(Self::Other((*words).to_owned())),
            ureq::Error::Pem(error) => Some(Self::Other(error.to_string())),
            // As rustls gives its own errors through a stream.
            ureq::Error::Io(error) => match inner(error) {
                Some(error) => Some(Self::of_rustls(error)),
                None if error.kind() == io::ErrorKind::InvalidData => {
                    Some(Self::Other(error.to_string()))
                }
                None => None,
            },
            _ => None,
        }
    }

    fn of_rustls(error: &rustls::Error) -> Self {
        use CertificateError as C;
        match error {
            rustls::Error::AlertReceived(alert) => {
                match ALERTS.iter().find(|(known, ..)| known == alert) {
                    Some((_, About::Client, words)) => Self::Client(words),
                    Some((_, About::Other, words)) => Self::Alert(words),
                    None => {
                        Self::Other(format!("the server ends it (TLS alert {})", u8::from(*alert)))
                    }
                }
            }
            rustls::Error::InvalidCertificate(C::Expired | C::ExpiredContext { .. }) => {
                Self::Time("the server's certificate has expired")
            }
            rustls::Error::InvalidCertificate(C::NotValidYet | C::NotValidYetContext { .. }) => {
                Self::Time("the server's certificate is not valid yet")
            }
            rustls::Error::InvalidCertificate(C::NotValidForNameContext { presented, .. }) => {
                Self::OtherName(presented.iter().map(|name| plain(name)).collect())
            }
            rustls::Error::InvalidCertificate(C::NotValidForName) => Self::OtherName(Vec::new()),
            // The library's own word for it, which has no place of its own in [`CertificateError`].
            rustls::Error::InvalidCertificate(C::Other(other))
                if other.to_string().contains("CaUsedAsEndEntity") =>
            {
                Self::Authority
            }
            rustls::Error::InvalidCertificate(
                C::UnknownIssuer | C::BadSignature | C::Revoked | C::Other(_),
            ) => Self::Untrusted,
            rustls::Error::PeerIncompatible(_) => Self::Alert(
                "the server has no version of TLS or no cipher that is spoken here (TLS 1.2 and 1.3)",
            ),
            error => Self::Other(error.to_string()),
        }
    }

    /// What to do about it, where that is not a matter of whom one asks.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Untrusted | Self::Client(_) | Self::Other(_) => return None,
            Self::Authority => {
                "make the server one that says it is none: `openssl req -x509 -newkey rsa:2048 -nodes -days 365 -keyout server.key -out server.crt -subj /CN=HOST -addext subjectAltName=DNS:HOST -addext basicConstraints=critical,CA:FALSE`".to_owned()
            }
            Self::Time(_) => {
                "whoever runs the server renews it; or the clock of this machine is wrong (`date`)"
                    .to_owned()
            }
            Self::OtherName(names) if names.is_empty() => "ask by a name that it has".to_owned(),
            Self::OtherName(_) => "ask by one of these names".to_owned(),
            Self::Alert(_) => {
                "the fault is on the server's or a proxy's side; is it the right host and port?"
                    .to_owned()
            }
        })
    }
}

impl fmt::Display for TlsFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untrusted => {
                out.write_str("the server's certificate is of no authority that is trusted here")
            }
            Self::Authority => out.write_str(
                "the server shows an authority's certificate as its own (CA:TRUE, as `openssl req -x509` makes them)",
            ),
            Self::OtherName(names) if names.is_empty() => {
                out.write_str("the server's certificate is not for that name")
            }
            Self::OtherName(names) => {
                write!(
                    out,
                    "the server's certificate is not for that name, but for {}",
                    names.join(", ")
                )
            }
            Self::Time(words) | Self::Client(words) | Self::Alert(words) => out.write_str(words),
            Self::Other(words) => write!(out, "TLS failed: {words}"),
        }
    }
}

/// Whether TLS failed because what came is no TLS at all.
pub(super) fn is_no_tls(error: &ureq::Error) -> bool {
    let error = match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => inner(error),
        _ => None,
    };
    matches!(error, Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)))
}

/// The error of rustls in one of a stream.
fn inner(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// A name in a certificate as it may be shown: `DnsName("a.invalid")` is what the library says.
fn plain(name: &str) -> String {
    let name = name.split_once('(').map_or(name, |(_, rest)| rest.trim_end_matches(')'));
    name.trim_matches('"').chars().filter(|c| !c.is_control()).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_alert_is_known_once_and_in_words() {
        for (at, (alert, _, words)) in ALERTS.iter().enumerate() {
            assert!(ALERTS[..at].iter().all(|(other, ..)| other != alert), "{alert:?}");
            assert!(words.starts_with("the "), "{words}");
            let error = ureq::Error::Rustls(rustls::Error::AlertReceived(*alert));
            assert_eq!(TlsFault::of(&error).unwrap().to_string(), *words);
        }
        let other = rustls::Error::AlertReceived(Alert::DecodeError);
        let other = io::Error::new(io::ErrorKind::InvalidData, other);
        let words = TlsFault::of(&ureq::Error::Io(other)).unwrap().to_string();
        assert_eq!(words, "TLS failed: the server ends it (TLS alert 50)");
    }
}
