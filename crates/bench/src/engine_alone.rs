//! Blobs through the engine into a store, without network and without the rest of Stowage, as a process to be measured.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::json;
use stowage_engine::{Engine, EngineOptions, FetchRequest};
use stowage_store::{MinFree, Store, StoreOptions};

use crate::cli::EngineWork;
use crate::source::MadeUp;

/// Options of a store that refuses nothing for want of space.
pub(crate) fn store_options() -> StoreOptions {
    let min_free = MinFree { bytes_percent: 0, inodes_percent: 0 };
    StoreOptions { min_free, ..StoreOptions::default() }
}

/// Prints one JSON object with what the engine says of itself.
pub(crate) fn run(work: &EngineWork) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let store = Store::open(&work.store, store_options()).context("cannot open the store")?;
    runtime.block_on(async {
        let engine = Engine::new(store, EngineOptions::default());
        let started = Instant::now();
        let tickets: Vec<_> = work
            .digests
            .iter()
            .zip(1..)
            .map(|(digest, number)| {
                engine.join(FetchRequest {
                    digest: digest.clone(),
                    size: work.size,
                    source: Arc::new(MadeUp::zeros(work.size, number)),
                    namespace: "bench".to_owned(),
                    authority: None,
                    decode: None,
                })
            })
            .collect();
        for mut ticket in tickets {
            ticket.done().await.with_context(|| format!("cannot fetch {}", ticket.digest()))?;
        }
        let seconds = started.elapsed().as_secs_f64();
        let stats = engine.stats();
        engine.shutdown();
        engine.closed().await;
        println!("{}", json!({ "seconds": seconds, "bufferBytesPeak": stats.buffer_bytes_peak }));
        Ok(())
    })
}
