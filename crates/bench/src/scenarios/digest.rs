//! How fast digest code is, on one thread, over buffers of 1 MiB.

use std::hint::black_box;
use std::time::Duration;

use aws_lc_rs::digest::Context;
use serde_json::json;
use sha2::Digest as _;
use stowage_artifact::{Algorithm, Hasher};

use crate::bench::Bench;
use crate::figures::{Row, Section, Table};
use crate::machine::Machine;
use crate::quantity::{MIB, significant};
use crate::statistics::median;
use crate::svg::{Bar, Bars, Chart};

const CODES: [&str; 3] = ["sha2 crate", "aws-lc-rs", "stowage"];

pub(super) fn run(bench: &Bench) -> Section {
    let each = bench.scale.pick(Duration::from_secs(1), Duration::from_millis(300), Duration::from_millis(5));
    let buffer: Vec<u8> = (0..MIB).map(|n| (n * 31 + n / 257) as u8).collect();
    let sha = Machine::describe(&bench.dir(""), "").has_sha();
    let mut section = Section::default();
    let mut table = Table::new(
        "one thread, by its processor time, buffers of 1 MiB, median",
        &["algorithm", CODES[0], CODES[1], CODES[2]],
    );
    let mut bars = Vec::new();
    let mut raw = serde_json::Map::new();
    for algorithm in Algorithm::ALL {
        let mut speeds: [Vec<f64>; 3] = Default::default();
        for _ in 0..bench.runs(5, 3) {
            for (code, speeds) in speeds.iter_mut().enumerate() {
                let bytes = hash_for(each, algorithm, code, &buffer);
                speeds.push(bytes);
            }
        }
        let [crate_, aws, ours] = speeds.each_ref().map(|speeds| median(speeds).unwrap_or(0.0));
        let text = |speed: f64| format!("{} MB/s", significant(speed / 1e6));
        table.line([algorithm.to_string(), text(crate_), text(aws), text(ours)]);
        let best = crate_.max(aws);
        section.rows.push(
            Row::judged(
                format!("{algorithm}: ours against the faster of sha2 and aws-lc-rs"),
                format!("{:.2} x ({})", ours / best, text(ours)),
                ">= 0.95 x",
                ours >= 0.95 * best,
            )
            .note(format!("sha2 {}, aws-lc-rs {}", text(crate_), text(aws)))
            .note(if sha {
                "with SHA instructions"
            } else {
                "this processor has no SHA instructions"
            }),
        );
        for (name, speed) in CODES.into_iter().zip([crate_, aws, ours]) {
            let (label, value) = (format!("{algorithm}, {name}"), speed / 1e6);
            bars.push(Bar { label, values: vec![value], text: text(speed), ours: name == CODES[2] });
        }
        raw.insert(
            algorithm.to_string(),
            json!({ "sha2": speeds[0], "awsLcRs": speeds[1], "stowage": speeds[2] }),
        );
    }
    section.tables.push(table);
    section.raw = raw.into();
    let chart = Bars {
        title: "Digest code".to_owned(),
        subtitle: format!(
            "one thread, buffers of 1 MiB, {} SHA instructions",
            if sha { "with" } else { "without" }
        ),
        axis: "MB/s, more is better".to_owned(),
        each: bars,
        ..Bars::default()
    };
    section.charts.push(("digest", Chart::Bars(chart)));
    section
}

/// Bytes a second.
fn hash_for(time: Duration, algorithm: Algorithm, code: usize, buffer: &[u8]) -> f64 {
    match (code, algorithm) {
        (0, Algorithm::Sha256) => speed(time, buffer, &mut sha2::Sha256::new(), |h, b| h.update(b)),
        (0, Algorithm::Sha512) => speed(time, buffer, &mut sha2::Sha512::new(), |h, b| h.update(b)),
        (1, algorithm) => {
            let algorithm = match algorithm {
                Algorithm::Sha256 => &aws_lc_rs::digest::SHA256,
                Algorithm::Sha512 => &aws_lc_rs::digest::SHA512,
            };
            speed(time, buffer, &mut Context::new(algorithm), Context::update)
        }
        (_, algorithm) => speed(time, buffer, &mut Hasher::new(algorithm), Hasher::update),
    }
}

fn speed<H>(time: Duration, buffer: &[u8], hasher: &mut H, mut update: impl FnMut(&mut H, &[u8])) -> f64 {
    let started = thread_time();
    let mut bytes = 0u64;
    loop {
        update(hasher, black_box(buffer));
        bytes += buffer.len() as u64;
        let took = thread_time().saturating_sub(started);
        if took >= time {
            black_box(hasher);
            return bytes as f64 / took.as_secs_f64();
        }
    }
}

/// Processor time of this thread: what else the machine does is not the digest's affair.
fn thread_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(now).unwrap_or_default()
}
