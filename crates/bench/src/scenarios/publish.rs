//! Publishing what is cached, over the CSI socket of a real plugin.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags};
use serde_json::json;
use stowage_csi_proto::csi::v1::ProbeRequest;
use stowage_testkit::kubelet::PublishRequest;
use stowage_testkit::{Registry, artifacts};

use crate::bench::Bench;
use crate::disk;
use crate::figures::{Row, Section, Table};
use crate::node::{self, Node};
use crate::quantity::{MIB, seconds};
use crate::statistics::{median, most, percentile};

/// The most pods that kubelet runs on a node by default.
const CROWD: usize = 110;

/// Times of one kind of call, in seconds.
pub(super) struct Calls {
    pub(super) name: &'static str,
    pub(super) times: Vec<f64>,
}

impl Calls {
    pub(super) fn at(&self, percent: u8) -> f64 {
        percentile(&self.times, percent).unwrap_or_default()
    }

    pub(super) fn describe(&self) -> String {
        format!("p50 {}, p99 {}", seconds(self.at(50)), seconds(self.at(99)))
    }

    /// A table with a line for each kind.
    pub(super) fn table(title: &str, all: &[&Self]) -> Table {
        let mut table = Table::new(title, &["", "calls", "p50", "p99", "worst"]);
        for calls in all {
            let worst = most(&calls.times).unwrap_or_default();
            let [p50, p99, worst] = [calls.at(50), calls.at(99), worst].map(seconds);
            table.line([calls.name.to_owned(), calls.times.len().to_string(), p50, p99, worst]);
        }
        table
    }
}

pub(super) fn run(bench: &Bench) -> Result<Section> {
    bench.runtime.block_on(measure(bench))
}

async fn measure(bench: &Bench) -> Result<Section> {
    let registry = Registry::builder().start().await.context("cannot start testkit's registry")?;
    let content = vec![7; MIB as usize];
    let artifact = artifacts::oras_files([("model.bin", content)]).build()?;
    registry.push("bench/model", Some("v1"), &artifact);
    let reference = registry.reference("bench/model", "v1");
    let node = Node::start(bench, "publish", &registry.host(), None).await?;
    // It is cached from here on, and nothing is mounted.
    let cold = node.request(&reference, false)?;
    node.publish(&cold).await?;
    node.unpublish(&cold).await?;

    let count = bench.runs(1000, 200) as usize;
    let bare = bare(bench, count)?;
    let probe = probe(&node, count).await?;
    let (overlay, unpublish) = one_by_one(bench, &node, &reference, count, false).await?;
    let (bind, _) = one_by_one(bench, &node, &reference, count, true).await?;
    let crowd = crowd(bench, &node, &reference).await?;
    node.stop()?;
    disk::remove(&bench.dir("store-publish"))?;

    let table = Calls::table("Calls, one after the other", &[&overlay, &bind, &unpublish, &probe, &bare]);
    let rows = rows(bench, &overlay, &bind, &probe, &bare, &crowd);
    let raw = json!({
        "publish": overlay.times, "publishReadOnly": bind.times, "unpublish": unpublish.times,
        "probe": probe.times, "bare": bare.times, "crowd": crowd,
    });
    Ok(Section { rows, tables: vec![table], raw, ..Section::default() })
}

fn rows(
    bench: &Bench,
    overlay: &Calls,
    bind: &Calls,
    probe: &Calls,
    bare: &Calls,
    crowd: &[f64],
) -> Vec<Row> {
    let full = bench.scale.is_full();
    let slower = if overlay.at(99) > bind.at(99) { overlay } else { bind };
    let times = slower.at(50) / bare.at(50);
    let crowd_time = median(crowd).unwrap_or_default();
    vec![
        Row::judged(
            "publish of what is cached, p99",
            seconds(slower.at(99)),
            "<= 5 ms",
            slower.at(99) <= 5e-3,
        )
        .note(format!("{}: {}", overlay.name, overlay.describe()))
        .note(format!("{}: {}", bind.name, bind.describe()))
        .at_full_size(full),
        Row::judged(
            "the same against a bare open_tree + move_mount, p50",
            format!("{times:.1} x ({} : {})", seconds(slower.at(50)), seconds(bare.at(50))),
            "<= 5 x",
            times <= 5.0,
        )
        .note(format!("p99: {:.1} x", slower.at(99) / bare.at(99)))
        .note(format!("an empty call (Probe) over the same socket: {}", probe.describe()))
        .at_full_size(full),
        Row::judged(
            format!("{CROWD} publishes at once"),
            format!("{} until the last answer", seconds(crowd_time)),
            "<= 0.5 s",
            crowd_time <= 0.5,
        )
        .note(format!("median of {}", crowd.len())),
    ]
}

/// What the kernel itself needs, without anybody around it.
pub(super) fn bare(bench: &Bench, count: usize) -> Result<Calls> {
    let (tree, target) = (bench.dir("bare-tree"), bench.short_dir("bare"));
    disk::fresh(&tree)?;
    disk::fresh(&target)?;
    let times: Result<Vec<f64>> = (0..count).map(|_| bare_once(&tree, &target)).collect();
    Ok(Calls { name: "bare open_tree + move_mount", times: times? })
}

fn bare_once(tree: &Path, target: &Path) -> Result<f64> {
    let started = Instant::now();
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let clone = rustix::mount::open_tree(CWD, tree, flags).context("open_tree")?;
    rustix::mount::move_mount(&clone, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .context("move_mount")?;
    let took = started.elapsed().as_secs_f64();
    drop(clone);
    rustix::mount::unmount(target, UnmountFlags::empty()).context("unmount")?;
    Ok(took)
}

async fn probe(node: &Node, count: usize) -> Result<Calls> {
    let mut client = node.plugin().identity();
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        client.probe(ProbeRequest {}).await?;
        times.push(started.elapsed().as_secs_f64());
    }
    Ok(Calls { name: "Probe", times })
}

pub(super) async fn one_by_one(
    bench: &Bench,
    node: &Node,
    reference: &str,
    count: usize,
    readonly: bool,
) -> Result<(Calls, Calls)> {
    bench.say(format!("{count} publishes, readOnly {readonly}"));
    let mut client = node.plugin().node();
    let (mut publishes, mut unpublishes) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for _ in 0..count {
        let request = node.request(reference, readonly)?;
        publishes.push(node::publish(&mut client, &request).await?);
        unpublishes.push(node::unpublish(&mut client, &request).await?);
    }
    let name = if readonly { "publish, readOnly (bind)" } else { "publish (overlay)" };
    Ok((Calls { name, times: publishes }, Calls { name: "unpublish", times: unpublishes }))
}

/// Seconds until the last of a crowd is answered, for each of several crowds.
async fn crowd(bench: &Bench, node: &Node, reference: &str) -> Result<Vec<f64>> {
    let mut walls = Vec::new();
    for _ in 0..bench.scale.pick(5, 5, 1) {
        let requests: Vec<PublishRequest> =
            (0..CROWD).map(|_| node.request(reference, false)).collect::<Result<_>>()?;
        let started = Instant::now();
        let calls: Vec<_> = requests
            .iter()
            .map(|request| {
                let (mut client, request) = (node.plugin().node(), request.clone());
                tokio::spawn(async move { node::publish(&mut client, &request).await })
            })
            .collect();
        for call in calls {
            call.await.context("a call panicked")??;
        }
        walls.push(started.elapsed().as_secs_f64());
        for request in &requests {
            node.unpublish(request).await?;
        }
    }
    Ok(walls)
}
