//! Errors of the HTTP client in our words.

use std::error::Error;
use std::io;
use std::time::Duration;

use url::Url;

use crate::address::RefusedAddress;
use crate::error::RegistryError;
use crate::shown::host_and_port;

/// Translates a failure to get an answer, or to read it on. The client's own text would show whole URLs.
pub(crate) fn translate(error: &reqwest::Error, url: &Url, what: &str) -> RegistryError {
    let host = host_and_port(url);
    let what = what.to_owned();
    if let Some(refused) = find::<RefusedAddress>(error) {
        return RegistryError::Refused { what, reason: refused.to_string() };
    }
    if let Some(rustls::Error::InvalidCertificate(reason)) = find::<rustls::Error>(error) {
        return RegistryError::Untrusted { what, host, reason: reason.to_string() };
    }
    let cause = root_cause(error);
    let reason = if error.is_timeout() {
        format!("no connection to {host} in time")
    } else if error.is_dns() {
        format!("the name {host} cannot be resolved ({cause})")
    } else if error.is_connect() {
        format!("no connection to {host} ({cause})")
    } else if error.is_body() || error.is_decode() {
        format!("the answer of {host} broke off ({cause})")
    } else {
        format!("the exchange with {host} failed ({cause})")
    };
    RegistryError::Unavailable { what, reason, retry_after: None }
}

/// Nothing came within the inactivity limit.
pub(crate) fn silent(url: &Url, limit: Duration, what: &str) -> RegistryError {
    let reason = format!("{} sent nothing for {} s", host_and_port(url), limit.as_secs_f64());
    RegistryError::Unavailable { what: what.to_owned(), reason, retry_after: None }
}

/// Whether the server answered in TLS, if only to show a bad certificate; `None` when it did not answer.
pub(crate) fn spoke_tls(error: &reqwest::Error) -> Option<bool> {
    find::<rustls::Error>(error).map(|error| matches!(error, rustls::Error::InvalidCertificate(_)))
}

/// Looks for an error of one type in the chain, also inside I/O errors, whose `source` skips what they wrap.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(current) = next {
        if let Some(found) = current.downcast_ref::<T>() {
            return Some(found);
        }
        let wrapped = current.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => current.source(),
        };
    }
    None
}

fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    // Only the outermost error of the client prints a URL, and it always has a source.
    if std::ptr::addr_eq(cause, error) { "no further reason".to_owned() } else { cause.to_string() }
}
