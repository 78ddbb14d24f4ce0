//! A look at what was installed by somebody else, before an hour is spent on it.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::events;
use crate::reader::Reader;
use crate::stage::Stage;

/// The name that stands in for that of a scenario.
pub(crate) const NAME: &str = "preflight";
/// How long a small sample may take, with the start of a container.
const LIMIT: Duration = Duration::from_mins(1);

/// Mounts one small sample. The first warning says what is wrong, most often that the configuration does not name the
/// registry.
pub(crate) async fn preflight(stage: &Stage) -> Result<()> {
    let sample = stage.sample("samples/preflight")?;
    let pod = stage.start(&Reader::inline("reader", &sample.reference).expects(&sample)).await?;
    let Err(error) = stage.succeeds("reader", LIMIT).await else { return Ok(()) };
    let events = stage.events(&pod).await.unwrap_or_default();
    match events::first_warning(&events) {
        Some(first) => bail!("a small sample of the registry cannot be mounted: {first}"),
        None => Err(error.context("a small sample of the registry cannot be mounted")),
    }
}
