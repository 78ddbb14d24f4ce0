//! What a changed file changes.

use std::collections::BTreeMap;

use serde_json::Value;

use super::NodeConfiguration;

/// Sections whose keys take effect while the plugin runs; the schema says the same of each key.
pub(super) const RELOADABLE: [&str; 2] = ["credentials", "policy"];

/// The keys in which two configurations differ and that are read at the start only, as `section.key`.
pub fn restart_needed(old: &NodeConfiguration, new: &NodeConfiguration) -> Vec<String> {
    let (old, new) = (keys(old), keys(new));
    let mut changed: Vec<String> = old
        .keys()
        .chain(new.keys())
        .filter(|key| old.get(*key) != new.get(*key))
        .filter(|key| !RELOADABLE.iter().any(|section| key.starts_with(&format!("{section}."))))
        .cloned()
        .collect();
    changed.sort();
    changed.dedup();
    changed
}

/// All keys of all sections.
fn keys(configuration: &NodeConfiguration) -> BTreeMap<String, Value> {
    let Ok(Value::Object(sections)) = serde_json::to_value(configuration) else { return BTreeMap::new() };
    let mut all = BTreeMap::new();
    for (section, content) in sections {
        if let Value::Object(content) = content {
            all.extend(content.into_iter().map(|(key, value)| (format!("{section}.{key}"), value)));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(rest: &str) -> NodeConfiguration {
        let head = "apiVersion: config.stowage.dev/v1alpha1\nkind: NodeConfiguration\n";
        NodeConfiguration::parse(format!("{head}{rest}").as_bytes()).unwrap()
    }

    #[test]
    fn only_keys_that_are_read_at_the_start_need_one() {
        let old = parse("limits: {maxConnections: 4}\npolicy: {requireDigest: true}");
        let new = parse("limits: {maxConnections: 5}\nstore: {maxBytes: 1}\ncredentials: {dockerConfig: /x}");
        assert_eq!(restart_needed(&old, &new), ["limits.maxConnections", "store.maxBytes"]);
        assert!(restart_needed(&old, &old).is_empty());
    }
}
