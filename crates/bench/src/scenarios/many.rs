//! An artifact of ten thousand small blobs.

use anyhow::{Context, Result};
use serde_json::json;
use stowage_testkit::{BlobData, Registry};

use crate::bench::Bench;
use crate::content;
use crate::disk;
use crate::docker_registry::DockerRegistry;
use crate::figures::{Row, Section, Table};
use crate::image::{Image, REPOSITORY};
use crate::node::Node;
use crate::peers::Peer;
use crate::proc_status::processor_seconds;
use crate::quantity::seconds;
use crate::statistics::median;

const SIZE: u64 = 10 << 10;
/// Connections of curl.
const AT_ONCE: &str = "24";

/// What publishing from one registry came to.
struct Published {
    server: &'static str,
    /// Seconds from the first call to its answer, with nothing cached.
    cold: Vec<f64>,
    /// Processor seconds of the plugin for each of those.
    cpu: Vec<f64>,
    /// Seconds with everything cached.
    cached: Vec<f64>,
}

pub(super) fn run(bench: &Bench) -> Result<Section> {
    let count = bench.scale.pick(10_000, 1_000, 20);
    let docker = DockerRegistry::start(&bench.dir("registry"))?;
    bench.say(format!("making {count} blobs"));
    let image = docker.publish(content::random_files(&bench.dir("new"), 3, count, SIZE)?)?;
    let before = docker.cpu();
    let floor = floor(bench, &image).map(|seconds| (seconds, docker.cpu() - before));
    let ours = bench.runtime.block_on(publish(bench, "docker-registry", &image))?;
    let testkit = in_process(&docker, &image)?;
    let theirs = image.at(testkit.host());
    let second = bench.runtime.block_on(publish(bench, "testkit's registry", &theirs))?;
    drop(testkit);

    let mut table = Table::new("Publishing and pulling: medians", &["", "server", "cold", "CPU", "cached"]);
    for published in [&ours, &second] {
        let [cold, cpu, cached] = [&published.cold, &published.cpu, &published.cached]
            .map(|times| seconds(median(times).unwrap_or_default()));
        table.line(["stowage, publish".to_owned(), published.server.to_owned(), cold, cpu, cached]);
    }
    // The others were not made for this: skopeo and crane take time that grows with the square of the number of layers.
    let [wall, cpu] = match pull(bench, Peer::Oras, &image) {
        Ok(times) => times.map(seconds),
        Err(why) => [format!("{why:#}"), String::new()],
    };
    table.line([Peer::Oras.what().to_owned(), "docker-registry".to_owned(), wall, cpu, String::new()]);
    let floor = floor.map(|(wall, cpu)| {
        let cells = [seconds(wall), seconds(cpu)];
        let [wall, cpu] = cells.clone();
        let what = format!("curl, {AT_ONCE} at a time, to /dev/null; CPU of the server");
        table.line([what, "docker-registry".to_owned(), wall, cpu, String::new()]);
        let [wall, cpu] = cells;
        format!("curl to /dev/null, {AT_ONCE} at a time, {wall}: docker-registry itself takes {cpu} of CPU")
    });
    drop(docker);
    disk::remove(&bench.dir("registry"))?;
    let mut rows = rows(bench, count, &ours, &second);
    if let Some(row) = rows.first_mut() {
        row.notes.push(floor.unwrap_or_else(|why| format!("curl failed: {why:#}")));
    }
    let raw = |it: &Published| json!({ "cold": it.cold, "cpu": it.cpu, "cached": it.cached });
    Ok(Section {
        rows,
        tables: vec![table],
        raw: json!({ "blobs": count, "dockerRegistry": raw(&ours), "testkit": raw(&second) }),
        ..Section::default()
    })
}

fn rows(bench: &Bench, count: u64, ours: &Published, second: &Published) -> Vec<Row> {
    let full = bench.scale.is_full();
    let middle = |times: &[f64]| median(times).unwrap_or_default();
    let (cold, cached) = (middle(&ours.cold), middle(&ours.cached));
    vec![
        Row::judged(
            format!("{count} raw blobs of 10 KiB, publish from cold"),
            seconds(cold),
            "<= 10 s",
            cold <= 10.0,
        )
        .note(format!("from docker-registry, median of {}", ours.cold.len()))
        .note(format!("from testkit's registry {}", seconds(middle(&second.cold))))
        .note(format!("CPU of the plugin {}", seconds(middle(&ours.cpu))))
        .at_full_size(full),
        Row::judged("the same from cache", seconds(cached), "<= 50 ms", cached <= 0.05)
            .note(format!("median of {}", ours.cached.len()))
            .at_full_size(full),
    ]
}

async fn publish(bench: &Bench, server: &'static str, image: &Image) -> Result<Published> {
    let mut published = Published { server, cold: Vec::new(), cpu: Vec::new(), cached: Vec::new() };
    let rounds = bench.runs(3, 1);
    for round in 0..rounds {
        bench.say(format!("publish from {server}: round {} of {rounds}", round + 1));
        let node = Node::start(bench, "many", image.host(), None).await?;
        let cpu = || processor_seconds(node.pid()).map(|(user, system)| user + system);
        let before = cpu();
        let request = node.request(&image.reference(), false)?;
        disk::sync(&bench.dir(""))?;
        published.cold.push(node.publish(&request).await?);
        published.cpu.extend(before.zip(cpu()).map(|(before, after)| after - before));
        node.unpublish(&request).await?;
        for _ in 0..bench.scale.pick(20, 10, 2) {
            let request = node.request(&image.reference(), false)?;
            published.cached.push(node.publish(&request).await?);
            node.unpublish(&request).await?;
        }
        node.stop()?;
        disk::remove(&bench.dir("store-many"))?;
        disk::remove(&bench.short_dir("many"))?;
    }
    Ok(published)
}

/// The same artifact on testkit's registry, in this process.
fn in_process(docker: &DockerRegistry, image: &Image) -> Result<Registry> {
    let registry = Registry::builder().start_blocking().context("cannot start testkit's registry")?;
    for file in image.files() {
        let bytes = std::fs::read(docker.blob(&file.digest)).context("cannot read a blob back")?;
        registry.put_blob(REPOSITORY, &file.digest, BlobData::from(bytes));
    }
    for manifest in image.manifests() {
        let config = stowage_artifact::Digest::of(stowage_artifact::Algorithm::Sha256, &manifest.config);
        registry.put_blob(REPOSITORY, &config, BlobData::from(manifest.config));
        let media_type = stowage_testkit::artifacts::OCI_MANIFEST;
        registry.put_manifest(REPOSITORY, Some(manifest.tag), media_type, manifest.bytes.into());
    }
    Ok(registry)
}

/// Seconds that the registry needs to hand out every blob, to a client that does nothing with them.
fn floor(bench: &Bench, image: &Image) -> Result<f64> {
    let lines = |url: String| [format!("url = \"{url}\"\n"), "output = \"/dev/null\"\n".to_owned()];
    let list: String = image.blob_urls().flat_map(lines).collect();
    let config = bench.dir("curl.config");
    std::fs::write(&config, list).context("cannot write a list for curl")?;
    let mut curl = bench.clean(std::process::Command::new("curl"));
    curl.args(["--silent", "--show-error", "--fail", "--parallel", "--parallel-max", AT_ONCE, "--config"]);
    curl.arg(&config);
    Ok(bench.measure(vec![curl])?.wall)
}

/// Wall and processor seconds of one pull.
fn pull(bench: &Bench, peer: Peer, image: &Image) -> Result<[f64; 2]> {
    let into = bench.dir("out");
    disk::fresh(&into)?;
    let commands = bench.peer(peer, image, &into).map_err(anyhow::Error::msg)?;
    bench.say(peer.what());
    let usage = bench.measure(commands)?;
    disk::remove(&into)?;
    Ok([usage.wall, usage.cpu()])
}
