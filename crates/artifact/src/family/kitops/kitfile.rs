//! The Kitfile in a kit's config blob (kitops-ml/kitops pkg/artifact/kitfile.go).

use serde::Deserialize;

use crate::excerpt::excerpt;

/// Which part of a kit an entry or a layer is, by the word in the layer's media type
/// (kitops-ml/kitops pkg/lib/constants/mediatype/kitops.go, `baseTypeString`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Role {
    Model,
    ModelPart,
    Code,
    Prompt,
    Dataset,
    Docs,
    McpServer,
    /// A part that this version does not know; its digest will tell.
    Other,
}

/// One entry, whatever part of the kit it is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Item {
    pub(super) path: Option<String>,
    /// Set for a dataset that is not in the kit.
    #[serde(alias = "remotepath", alias = "remote_path")]
    pub(super) remote_path: Option<String>,
    /// The layer's digest; kits from before `KitOps` 0.5 have none.
    pub(super) digest: Option<String>,
    /// The digest of the layer's decoded bytes.
    pub(super) diff_id: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Model {
    path: Option<String>,
    digest: Option<String>,
    diff_id: Option<String>,
    parts: Option<Vec<Item>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Kitfile {
    model: Option<Model>,
    code: Option<Vec<Item>>,
    datasets: Option<Vec<Item>>,
    docs: Option<Vec<Item>>,
    prompts: Option<Vec<Item>>,
    #[serde(alias = "mcpservers", alias = "mcp_servers")]
    mcp_servers: Option<Vec<Item>>,
}

/// Every entry of a Kitfile, in the order in which `kit` packs them.
///
/// `kit` writes JSON; YAML is what people write, so it is read too.
pub(super) fn entries(bytes: &[u8]) -> Result<Vec<(Role, Item)>, String> {
    let Kitfile { model, code, datasets, docs, prompts, mcp_servers } = read(bytes)?;
    let mut found = Vec::new();
    if let Some(Model { path, digest, diff_id, parts }) = model {
        if path.as_ref().is_some_and(|path| !path.is_empty()) {
            found.push((Role::Model, Item { path, remote_path: None, digest, diff_id }));
        }
        found.extend(parts.into_iter().flatten().map(|item| (Role::ModelPart, item)));
    }
    let lists = [
        (Role::Code, code),
        (Role::Dataset, datasets),
        (Role::Docs, docs),
        (Role::Prompt, prompts),
        (Role::McpServer, mcp_servers),
    ];
    for (part, items) in lists {
        found.extend(items.into_iter().flatten().map(|item| (part, item)));
    }
    Ok(found)
}

fn read(bytes: &[u8]) -> Result<Kitfile, String> {
    let as_json = match serde_json::from_slice(bytes) {
        Ok(kitfile) => return Ok(kitfile),
        Err(error) => error,
    };
    // What starts like JSON and is none is a broken Kitfile, not YAML.
    if bytes.trim_ascii_start().starts_with(b"{") {
        return Err(excerpt(&as_json.to_string()));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?;
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| excerpt(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::{Role, entries};

    fn shown(text: &str) -> Vec<(Role, String)> {
        entries(text.as_bytes())
            .unwrap()
            .into_iter()
            .map(|(part, item)| (part, item.path.unwrap_or_default()))
            .collect()
    }

    #[test]
    fn json_and_yaml_say_the_same() {
        let json = r#"{"manifestVersion":"1.0","package":{"name":"x"},
            "model":{"name":"m","path":"model/","parameters":{"a":[1,{"b":null}]},"parts":[{"path":"lora"}]},
            "code":[{"path":"src"}],"datasets":[{"path":"d","remotePath":"s3://x"}],"docs":null}"#;
        let yaml = "manifestVersion: 1.0\nmodel:\n  path: model/\n  parts:\n    - path: lora\ncode:\n- path: src\ndatasets:\n- {path: d, remotePath: 's3://x'}\ndocs:\n";
        let expected =
            [(Role::Model, "model/"), (Role::ModelPart, "lora"), (Role::Code, "src"), (Role::Dataset, "d")]
                .map(|(part, path)| (part, path.to_owned()));
        assert_eq!(shown(json), expected);
        assert_eq!(shown(yaml), expected);
    }

    #[test]
    fn what_is_no_kitfile_is_refused_in_one_line() {
        for broken in ["{", "{\"model\": 7}", "- a\n- b", "model: {path: [}", "\u{0}", "*a", "model: &a [*a]"]
        {
            let error = entries(broken.as_bytes()).unwrap_err();
            assert!(!error.is_empty() && !error.contains('\n'), "{broken:?}: {error:?}");
        }
        assert!(entries(b"\xff\xfe").is_err());
        assert!(entries(b"{}").unwrap().is_empty());
    }
}
