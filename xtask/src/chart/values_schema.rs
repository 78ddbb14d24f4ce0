//! `values.schema.json` knows the keys of the two configurations that the program knows, no more and no fewer.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::chart::command_line::Program;
use crate::command;
use crate::workspace::Workspace;

type Sections = BTreeMap<String, BTreeSet<String>>;

/// Compares the two schemas, section by section.
pub(super) fn check(workspace: &Workspace, program: &Program) -> Result<()> {
    let file = workspace.root().join("charts/stowage/values.schema.json");
    let ours: Value =
        serde_json::from_str(&command::read(&file)?).context("values.schema.json is no JSON")?;
    for part in ["node", "controller"] {
        let theirs: Value = serde_json::from_str(&program.schema(part)?)
            .with_context(|| format!("`stowage config schema {part}` prints no JSON"))?;
        let known = sections(&ours, &ours["$defs"][format!("{part}Configuration")]);
        same(part, &known, &sections(&theirs, &theirs))?;
    }
    Ok(())
}

fn same(part: &str, ours: &Sections, theirs: &Sections) -> Result<()> {
    ensure!(!theirs.is_empty(), "`stowage config schema {part}` has no sections");
    let names: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    for name in names {
        let (ours, theirs) = (ours.get(name), theirs.get(name));
        ensure!(
            ours == theirs,
            "values.schema.json has {ours:?} in {part}.config.{name}, the program {theirs:?}"
        );
    }
    Ok(())
}

/// The keys of every section, without those that say what the file is.
fn sections(document: &Value, schema: &Value) -> Sections {
    let keys = |schema: &Value| -> Vec<(String, Value)> {
        let properties = resolve(document, schema)["properties"].as_object();
        properties.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    let sections = keys(schema).into_iter().filter(|(name, _)| name != "apiVersion" && name != "kind");
    sections.map(|(name, section)| (name, keys(&section).into_iter().map(|(key, _)| key).collect())).collect()
}

/// What a reference within the document stands for, also one that has defaults or null beside it.
fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let choices = ["allOf", "anyOf"].iter().filter_map(|key| schema[key].as_array()).flatten();
    let reference = std::iter::once(schema).chain(choices).find_map(|schema| schema["$ref"].as_str());
    reference.and_then(|path| document.pointer(path.trim_start_matches('#'))).unwrap_or(schema)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_found_through_references() {
        let document = json!({
            "properties": {
                "kind": {"const": "A"},
                "limits": {"$ref": "#/$defs/Limits", "default": {}},
                "store": {"anyOf": [{"$ref": "#/$defs/Store"}, {"type": "null"}]},
                "policy": {"properties": {"a": {}}},
            },
            "$defs": {"Limits": {"properties": {"b": {}, "c": {}}}, "Store": {"properties": {"d": {}}}},
        });
        let found: Vec<String> = sections(&document, &document)
            .into_iter()
            .map(|(name, keys)| format!("{name}: {}", keys.into_iter().collect::<Vec<_>>().join(" ")))
            .collect();
        assert_eq!(found, ["limits: b c", "policy: a", "store: d"]);
    }

    #[test]
    fn the_schema_of_the_values_has_sections() {
        let ours: Value =
            serde_json::from_str(include_str!("../../../charts/stowage/values.schema.json")).unwrap();
        let node = sections(&ours, &ours["$defs"]["nodeConfiguration"]);
        assert!(node["registries"].contains("caFiles") && node["store"].contains("maxBytes"));
        let controller = sections(&ours, &ours["$defs"]["controllerConfiguration"]);
        assert!(controller["mirrors"].contains("hostsDirs") && !controller.contains_key("store"));
    }

    #[test]
    fn a_section_of_one_side_only_is_found() {
        let of = |names: &[&str]| -> Sections {
            names.iter().map(|name| ((*name).to_owned(), BTreeSet::new())).collect()
        };
        same("node", &of(&["policy"]), &of(&["policy"])).unwrap();
        let error = same("controller", &of(&["policy"]), &of(&["mirrors", "policy"])).unwrap_err();
        assert!(error.to_string().contains("controller.config.mirrors"), "{error}");
    }
}
