use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use crate::Error;

/// Where a stage is: `http://host:port`. A host name stands for all addresses that it resolves to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    // Without the brackets of an IPv6 address.
    host: String,
    port: u16,
}

impl Address {
    /// The host: a name, or an IP address (IPv6 without brackets).
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the host is a name, which may come to stand for other addresses.
    pub fn is_name(&self) -> bool {
        self.host.parse::<std::net::IpAddr>().is_err()
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(given: &str) -> Result<Self, Error> {
        let refuse = |reason| Error::Address { given: given.to_owned(), reason };
        let uri: http::Uri = given.trim().parse().map_err(|_| refuse("expected http://host:port"))?;
        if uri.scheme_str() != Some("http") {
            return Err(refuse("expected it to begin with http://"));
        }
        if uri.path() != "/" || uri.query().is_some() {
            return Err(refuse("expected nothing after the port"));
        }
        let port = uri.port_u16().ok_or_else(|| refuse("expected a port"))?;
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(refuse("expected a host"));
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "http://[{}]:{}", self.host, self.port),
            false => write!(f, "http://{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_address_reads_back_as_written() {
        for text in ["http://sampler:50052", "http://10.0.0.1:1", "http://[::1]:50051"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert!("http://sampler:1".parse::<Address>().unwrap().is_name());
        assert!(!"http://[::1]:1".parse::<Address>().unwrap().is_name());
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in
            ["", "sampler:50052", "https://sampler:1", "http://sampler", "http://:1", "http://a:1/b", "http://a:99999"]
        {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
