//! `stowage test-registry`: the registry of the end-to-end tests, out of the image that is tested.
//!
//! Hidden from the help: it forgets everything when it ends, and its books are open to whoever reaches them.

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use stowage_testkit::Registry;
use stowage_testkit::stocked::{Sample, Stocked, serve_books};
use tokio::net::TcpListener;

use crate::cli::TestRegistryArgs;
use crate::{Failure, signals, wiring};

pub(crate) async fn run(args: TestRegistryArgs) -> Result<(), Failure> {
    let stop = signals::told_to_stop()?;
    let mut builder = Registry::builder().bind(args.listen);
    if let Some(user) = &args.user {
        let (name, password) = user
            .split_once(':')
            .ok_or_else(|| wiring::configuration(anyhow!("--user has no colon: write NAME:PASSWORD")))?;
        builder = builder.basic(name, password);
    }
    if let Some(rate) = args.rate {
        builder = builder.rate(rate);
    }
    let registry =
        builder.start().await.with_context(|| format!("cannot serve a registry at {}", args.listen))?;
    let registry = Arc::new(registry);
    let stocked = stock(Arc::clone(&registry), args.samples, args.tag, args.salt).await?;
    // Only now, so that who sees the books open finds everything stocked.
    let books = TcpListener::bind(args.books)
        .await
        .with_context(|| format!("cannot listen on {} for the books", args.books))?;
    say!(
        "{}",
        serde_json::json!({
            "registry": registry.addr().to_string(),
            "books": books.local_addr()?.to_string(),
            "samples": stocked.len(),
        })
    );
    tokio::select! {
        ended = serve_books(books, registry, stocked.into()) => Ok(ended?),
        () = stop => Ok(()),
    }
}

async fn stock(
    registry: Arc<Registry>,
    samples: Vec<Sample>,
    tag: String,
    salt: String,
) -> Result<Vec<Stocked>, Failure> {
    let making = tokio::task::spawn_blocking(move || {
        samples.iter().map(|sample| sample.stock(&registry, &tag, &salt)).collect::<std::io::Result<Vec<_>>>()
    });
    Ok(making.await.context("the task that makes the samples died")?.context("cannot make the samples")?)
}
