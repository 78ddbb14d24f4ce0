//! `stowage store`: asks the plugin that has the store, or takes the store's lock when none runs.

use anyhow::anyhow;
use serde::Serialize;
use stowage_store::admin::{Answer, Client, ClientError, Request, answer};
use stowage_store::{CollectReport, FsckReport, ListEntry, ListKind};
use stowage_volumes::human_bytes;

use crate::cli::{StoreArgs, StoreCommand, StoreCommandArgs};
use crate::{Failure, wiring};

pub(crate) fn run(store: &StoreArgs, args: StoreCommandArgs) -> Result<(), Failure> {
    let request = match args.command {
        StoreCommand::Ls => Request::Ls,
        StoreCommand::Gc => Request::Gc { force: true, all: true },
        StoreCommand::Fsck { repair } => Request::Fsck { repair },
        StoreCommand::Rm { id } => Request::Rm { name: id },
    };
    let answer = ask(store, &request)?;
    match answer {
        Answer::Entries(entries) if args.json => print_json(&entries)?,
        Answer::Entries(entries) => list(&entries),
        Answer::Collected(report) if args.json => print_json(&report)?,
        Answer::Collected(report) => collected(&report),
        Answer::Checked(report) => return checked(&report, args.json),
        Answer::Removed if args.json => print_json(&serde_json::json!({ "removed": true }))?,
        Answer::Removed => say!("removed"),
        Answer::Usage(usage) => print_json(&usage)?,
        Answer::Failed(reason) => return Err(Failure::Failed(anyhow!(reason))),
    }
    Ok(())
}

fn ask(store: &StoreArgs, request: &Request) -> Result<Answer, Failure> {
    match Client::connect(&store.path) {
        Ok(mut client) => Ok(client.ask(request)?),
        Err(ClientError::NotRunning { .. }) => {
            if !store.path.exists() {
                return Err(wiring::configuration(anyhow!(
                    "there is no store at {}; name another one with --store",
                    store.path.display()
                )));
            }
            Ok(answer(&wiring::open_store(store)?, request))
        }
        Err(error) => Err(error.into()),
    }
}

fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    say!("{}", serde_json::to_string(value)?);
    Ok(())
}

fn list(entries: &[ListEntry]) {
    for entry in entries {
        let kind = match entry.kind {
            ListKind::View => "view",
            ListKind::Blob => "blob",
            ListKind::Ingest => "incomplete",
            ListKind::Quarantined => "quarantined",
        };
        let note = match (&entry.condemned, &entry.in_use_by) {
            (Some(reason), _) => format!("condemned: {reason}"),
            (None, Some(user)) => format!("used by {user}"),
            (None, None) => "unused".to_owned(),
        };
        say!("{kind:<11} {:>10}  {}  {note}", human_bytes(entry.bytes), entry.name);
    }
    if entries.is_empty() {
        say!("the store is empty");
    }
}

fn collected(report: &CollectReport) {
    say!(
        "removed {} views, {} blobs, {} incomplete downloads, {} quarantined: {} freed",
        report.views,
        report.blobs,
        report.ingests,
        report.quarantined,
        human_bytes(report.bytes)
    );
}

/// A store with damage that is still there is a failure, so that a script notices.
fn checked(report: &FsckReport, json: bool) -> Result<(), Failure> {
    if json {
        print_json(report)?;
    } else {
        say!(
            "read {} blobs ({}), {} views, {} records",
            report.blobs,
            human_bytes(report.bytes),
            report.views,
            report.records
        );
        for problem in &report.problems {
            let state = if problem.repaired { "repaired" } else { "found" };
            say!("{state}: {:?} {}: {}", problem.kind, problem.subject, problem.detail);
        }
    }
    if report.is_clean() {
        return Ok(());
    }
    let left = report.problems.iter().filter(|problem| !problem.repaired).count();
    Err(Failure::Failed(anyhow!("the store has {left} problems; run `stowage store fsck --repair`")))
}
