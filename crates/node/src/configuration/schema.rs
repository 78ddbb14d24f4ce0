//! The JSON schema of the file.

use serde_json::Value;

use super::NodeConfiguration;

/// The JSON schema (draft 2020-12) of a node's configuration; `x-reloadable` says of each key whether a change takes
/// effect while the plugin runs.
pub fn node_schema() -> Value {
    schemars::schema_for!(NodeConfiguration).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::changes::RELOADABLE;

    /// A schema with its reference followed.
    fn resolved<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
        schema["$ref"]
            .as_str()
            .and_then(|reference| root.pointer(reference.trim_start_matches('#')))
            .unwrap_or(schema)
    }

    #[test]
    fn each_key_says_whether_it_is_reloadable_and_what_it_means() {
        let schema = node_schema();
        let sections = schema["properties"].as_object().unwrap();
        let mut keys = 0;
        for (name, section) in
            sections.iter().filter(|(name, _)| !["apiVersion", "kind"].contains(&name.as_str()))
        {
            let section = resolved(section, &schema);
            assert_eq!(section["additionalProperties"], false, "{name}");
            for (key, property) in section["properties"].as_object().unwrap() {
                let reloadable = RELOADABLE.contains(&name.as_str());
                assert_eq!(property["x-reloadable"], reloadable, "{name}.{key}: {property}");
                assert!(property["description"].is_string(), "{name}.{key}");
                keys += 1;
            }
        }
        assert!(keys >= 20, "{keys}");
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["required"], serde_json::json!(["apiVersion", "kind"]));
    }

    /// Each key is in the reference, with what the schema says of reloading.
    #[test]
    fn the_reference_has_every_key() {
        let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/configuration.md");
        let text = std::fs::read_to_string(docs).unwrap();
        let schema = node_schema();
        for (name, section) in schema["properties"].as_object().unwrap() {
            let Some(properties) = resolved(section, &schema)["properties"].as_object() else { continue };
            for (key, property) in properties {
                let start = format!("| `{name}.{key}` |");
                let row = text.lines().find(|line| line.starts_with(&start));
                let row = row.unwrap_or_else(|| panic!("{start} is not in the reference"));
                let reloadable = if property["x-reloadable"] == true { "| yes |" } else { "| no |" };
                assert!(row.contains(reloadable), "{row}");
            }
        }
    }
}
