//! The scenarios: one promise each, one file each.

mod cached_artifact;
mod deleted_in_download;
mod image_volume;
mod inline_volume;
mod missing_tag;
mod plugin_restart;
mod pull_secret;
mod read_only;
mod restricted_namespace;
mod rolling_upgrade;
mod shared_download;
mod slow_download;
mod static_pv;
mod storage_class;
mod wrong_secret;

use anyhow::{Result, bail};
use futures::future::LocalBoxFuture;

use crate::stage::Stage;
use crate::verdict::Verdict;

/// One promise and how it is shown.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    /// Its name, for `--only`.
    pub(crate) name: &'static str,
    /// What it shows, in one line.
    pub(crate) shows: &'static str,
    /// Plays it. An error is a promise that did not hold.
    pub(crate) play: for<'a> fn(&'a Stage) -> LocalBoxFuture<'a, Result<Verdict>>,
}

/// All of them; those that need the plugin's whole attention come last.
pub(crate) const ALL: [Scenario; 15] = [
    inline_volume::SCENARIO,
    pull_secret::SCENARIO,
    wrong_secret::SCENARIO,
    missing_tag::SCENARIO,
    shared_download::SCENARIO,
    read_only::SCENARIO,
    restricted_namespace::SCENARIO,
    static_pv::SCENARIO,
    storage_class::SCENARIO,
    cached_artifact::SCENARIO,
    image_volume::SCENARIO,
    deleted_in_download::SCENARIO,
    plugin_restart::SCENARIO,
    rolling_upgrade::SCENARIO,
    slow_download::SCENARIO,
];

/// The scenarios of these names, in our order; all when there are no names. Those that must be played are among them.
pub(crate) fn chosen(names: &[String], must_play: &[String]) -> Result<Vec<Scenario>> {
    let mut named = names.iter().chain(must_play);
    if let Some(unknown) = named.find(|name| !ALL.iter().any(|scenario| scenario.name == name.as_str())) {
        bail!("there is no scenario `{unknown}`; --list has their names");
    }
    if let Some(left_out) = must_play.iter().find(|name| !names.is_empty() && !names.contains(name)) {
        bail!("`{left_out}` must be played and is not chosen: name it with --only, too");
    }
    let wanted = |scenario: &&Scenario| names.is_empty() || names.iter().any(|name| name == scenario.name);
    Ok(ALL.iter().filter(wanted).copied().collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_scenario_has_a_name_of_its_own_that_can_be_a_label() {
        let names: BTreeSet<&str> = ALL.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), ALL.len());
        assert!(
            names.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')),
            "{names:?}"
        );
        assert!(ALL.iter().all(|scenario| !scenario.shows.contains('\n')));
    }

    #[test]
    fn a_choice_keeps_the_order_and_refuses_what_is_not_there() {
        let names = |names: &[&str]| -> Vec<String> { names.iter().map(|&name| name.into()).collect() };
        let some = chosen(&names(&["static-pv", "inline-volume"]), &names(&["static-pv"])).unwrap();
        assert_eq!(some.iter().map(|one| one.name).collect::<Vec<_>>(), ["inline-volume", "static-pv"]);
        assert_eq!(chosen(&[], &names(&["static-pv"])).unwrap().len(), ALL.len());
        for (only, must_play, words) in [
            (&["inline"][..], &[][..], "no scenario `inline`"),
            (&[], &["inline"], "no scenario `inline`"),
            (&["static-pv"], &["image-volume"], "`image-volume` must be played"),
        ] {
            let error = chosen(&names(only), &names(must_play)).err().unwrap().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
