//! A cold pull of four blobs over loopback, from a real registry with plain http.

mod judge;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::Result;

use crate::bench::Bench;
use crate::content;
use crate::disk;
use crate::docker_registry::DockerRegistry;
use crate::figures::Section;
use crate::image::Image;
use crate::peers::Peer;
use crate::process::Usage;
use crate::quantity::MIB;

const BLOBS: u64 = 4;

/// Something that is run in turn with the others.
struct Contestant {
    name: &'static str,
    kind: Kind,
    /// It runs in every n-th round.
    every: u32,
    runs: Vec<Run>,
    /// Why it did not run, or not to its end.
    failed: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Stowage,
    Peer(Peer),
    /// Work that a pull cannot do without, on its own.
    Part(Part),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Sha256sum,
    Openssl,
    OurDigest,
    Copy,
    CurlToNull,
}

/// One run, and what it left.
struct Run {
    usage: Usage,
    /// Seconds until all of it is on the disk too.
    sync: f64,
    /// Bytes on the disk.
    disk: u64,
}

pub(super) fn run(bench: &Bench) -> Result<Section> {
    let size = bench.scale.pick(512 * MIB, 64 * MIB, MIB);
    let registry = DockerRegistry::start(&bench.dir("registry"))?;
    bench.say("making the blobs");
    let image = registry.publish(content::random_files(&bench.dir("new"), 1, BLOBS, size)?)?;
    let files: Vec<PathBuf> = image.files().iter().map(|file| registry.blob(&file.digest)).collect();
    let mut contestants = contestants(bench);
    let rounds = bench.runs(9, 3);
    for round in 0..rounds {
        bench.say(format!("round {} of {rounds}", round + 1));
        // Ours and oras change places from round to round; the others follow.
        if round % 2 == 1 {
            contestants.swap(0, 1);
        }
        for contestant in &mut contestants {
            if round % contestant.every == 0 && contestant.failed.is_none() {
                match contestant.run(bench, &image, &files) {
                    Ok(run) => contestant.runs.push(run),
                    Err(why) => {
                        bench.say(format!("{}: {why:#}", contestant.name));
                        contestant.failed = Some(format!("{why:#}"));
                    }
                }
            }
        }
        if round % 2 == 1 {
            contestants.swap(0, 1);
        }
    }
    drop(registry);
    disk::remove(&bench.dir("registry"))?;
    Ok(judge::section(bench, &image, &contestants))
}

fn contestants(bench: &Bench) -> Vec<Contestant> {
    let others = bench.scale.pick(3, 1, 1);
    let mut all = vec![("stowage", Kind::Stowage, 1), (Peer::Oras.name(), Kind::Peer(Peer::Oras), 1)];
    for peer in Peer::ALL.into_iter().filter(|peer| *peer != Peer::Oras) {
        all.push((peer.name(), Kind::Peer(peer), others));
    }
    for (name, part) in [
        ("sha256sum", Part::Sha256sum),
        ("openssl dgst -sha256", Part::Openssl),
        ("our digest code", Part::OurDigest),
        ("cp", Part::Copy),
        ("curl to /dev/null", Part::CurlToNull),
    ] {
        all.push((name, Kind::Part(part), others));
    }
    all.into_iter()
        .map(|(name, kind, every)| Contestant { name, kind, every, runs: Vec::new(), failed: None })
        .collect()
}

impl Contestant {
    fn run(&self, bench: &Bench, image: &Image, files: &[PathBuf]) -> Result<Run> {
        let into = bench.dir("out");
        disk::fresh(&into)?;
        let commands = self.commands(bench, image, files, &into)?;
        let usage = bench.measure(commands)?;
        let started = Instant::now();
        disk::sync(&into)?;
        let run = Run { usage, sync: started.elapsed().as_secs_f64(), disk: disk::used(&into)? };
        disk::remove(&into)?;
        Ok(run)
    }

    fn commands(&self, bench: &Bench, image: &Image, files: &[PathBuf], into: &Path) -> Result<Vec<Command>> {
        Ok(match self.kind {
            Kind::Stowage => vec![bench.pull(image, &into.join("store"), &[])],
            Kind::Peer(peer) => bench.peer(peer, image, into).map_err(anyhow::Error::msg)?,
            Kind::Part(part) => vec![part.command(bench, image, files, into)?],
        })
    }
}

impl Part {
    fn command(self, bench: &Bench, image: &Image, files: &[PathBuf], into: &Path) -> Result<Command> {
        let program = |name: &str| bench.clean(Command::new(name));
        let mut command = match self {
            Self::Sha256sum => program("sha256sum"),
            Self::Openssl => {
                let mut openssl = program("openssl");
                openssl.args(["dgst", "-sha256"]);
                openssl
            }
            Self::OurDigest => {
                let mut ours = bench.this_program()?;
                ours.arg("hash");
                ours
            }
            Self::Copy => {
                let mut cp = program("cp");
                // All are called `data`.
                cp.args(["--reflink=never", "--sparse=never", "--backup=numbered", "--target-directory"])
                    .arg(into);
                cp
            }
            Self::CurlToNull => {
                let mut curl = program("curl");
                curl.args(["--silent", "--show-error", "--fail"]);
                for url in image.blob_urls() {
                    curl.args(["--output", "/dev/null"]).arg(url);
                }
                return Ok(curl);
            }
        };
        command.args(files);
        Ok(command)
    }
}
