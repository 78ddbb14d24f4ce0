//! No public file names a place that exists on one machine only.

use std::fs;
use std::process::Command;

use anyhow::{Result, bail};

use crate::command;
use crate::report::Outcome;
use crate::workspace::Workspace;

/// Beginnings of such places, each in two halves so that this file passes its own check.
const PLACES: [(&str, &str); 9] = [
    ("/work", "/main"),
    ("/work", "/shared"),
    ("/work", "/."),
    ("/tmp", "/contract"),
    ("/root", "/.cargo"),
    ("/root", "/.rustup"),
    ("/root", "/go/"),
    ("/Us", "ers/"),
    ("/run", "/user/"),
];

/// Looks through every file that git has or would add.
pub(crate) fn check(workspace: &Workspace) -> Result<Outcome> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(workspace.root());
    let listed = command::capture(&mut git)?;
    let mut places: Vec<String> = PLACES.iter().map(|(start, end)| format!("{start}{end}")).collect();
    places.push(format!("{}/", workspace.root().display()));
    let (mut files, mut found) = (0, Vec::new());
    for name in listed.split('\0').filter(|name| !name.is_empty()) {
        // A file that is deleted but not yet committed is listed too; a binary one has no lines to read.
        let Ok(text) = fs::read_to_string(workspace.root().join(name)) else { continue };
        files += 1;
        found.extend(hits(&text, &places).map(|(line, place)| format!("{name}:{line} names {place}")));
    }
    if !found.is_empty() {
        bail!("{}", found.join("\n"));
    }
    Ok(Outcome::Passed(format!("{files} files")))
}

/// The lines that name one of the places.
fn hits<'a>(text: &'a str, places: &'a [String]) -> impl Iterator<Item = (usize, &'a str)> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let place = places.iter().find(|place| names(line, place)).map(String::as_str);
        let home =
            || line.match_indices("/home/").any(|(at, _)| is_home(line, at)).then_some("/home/<somebody>");
        place.or_else(home).map(|place| (index + 1, place))
    })
}

/// Whether the line has the place as the beginning of a path, not in the middle of a longer one.
fn names(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| begins_path(line, at))
}

fn is_home(line: &str, at: usize) -> bool {
    let somebody = line[at + "/home/".len()..].chars().next();
    begins_path(line, at) && somebody.is_some_and(|c| c.is_ascii_lowercase())
}

fn begins_path(line: &str, at: usize) -> bool {
    let before = line[..at].chars().next_back();
    !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '}' | '~'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_one_machine_are_found_with_their_line() {
        let places = vec![concat!("/work", "/main").to_owned()];
        let found = |text: &str| hits(text, &places).map(|(line, _)| line).collect::<Vec<_>>();
        assert_eq!(found(concat!("a\ncd /work", "/main/crates\n")), [2]);
        assert_eq!(found(concat!("see `/ho", "me/ann/.docker`")), [1]);
        assert_eq!(found(concat!("path=\"/ho", "me/ann\"")), [1]);
    }

    #[test]
    fn ordinary_paths_are_left_alone() {
        let places = vec![concat!("/work", "/main").to_owned()];
        let text =
            "$HOME/.docker ~/home/x ../home/x /var/lib/kubelet registry.example/work/mainline /home/<you>";
        assert_eq!(hits(text, &places).count(), 0);
        assert_eq!(hits(concat!("registry.example/work", "/main"), &places).count(), 0);
    }
}
