//! The bytes of a blob on their way: bounded silence, exact length.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{BoxStream, unfold};
use reqwest::Response;
use stowage_store::SourceError;
use tokio::time::timeout;
use url::Url;

use crate::error::RegistryError;
use crate::network_error::{silent, translate};
use crate::shown::host_and_port;

/// A body being read.
pub(crate) struct Body {
    pub(crate) response: Response,
    pub(crate) url: Url,
    /// How many bytes must still come, where that is known.
    pub(crate) left: Option<u64>,
    pub(crate) inactivity: Duration,
    pub(crate) what: String,
}

impl Body {
    /// The pieces of the body. It ends with an error unless exactly the promised bytes came.
    pub(crate) fn stream(self) -> BoxStream<'static, Result<Bytes, SourceError>> {
        let step = |body: Option<Self>| async move {
            let mut body = body?;
            match body.next().await {
                Ok(Some(piece)) => Some((Ok(piece), Some(body))),
                Ok(None) => None,
                Err(error) => Some((Err(error.into()), None)),
            }
        };
        unfold(Some(self), step).boxed()
    }

    /// The next piece, `None` at the promised end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        let piece = match timeout(self.inactivity, self.response.chunk()).await {
            Err(_) => return Err(silent(&self.url, self.inactivity, &self.what)),
            Ok(Err(error)) => return Err(translate(&error, &self.url, &self.what)),
            Ok(Ok(piece)) => piece,
        };
        let Some(left) = &mut self.left else { return Ok(piece) };
        match piece {
            None if *left == 0 => Ok(None),
            None => Err(RegistryError::Unavailable {
                what: self.what.clone(),
                reason: format!("{} ended {left} bytes too early", host_and_port(&self.url)),
                retry_after: None,
            }),
            Some(piece) => match left.checked_sub(piece.len() as u64) {
                Some(rest) => {
                    *left = rest;
                    Ok(Some(piece))
                }
                None => Err(RegistryError::Protocol {
                    what: self.what.clone(),
                    reason: format!("{} sends more bytes than it announced", host_and_port(&self.url)),
                }),
            },
        }
    }
}
