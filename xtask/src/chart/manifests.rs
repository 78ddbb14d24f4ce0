//! Kubernetes objects in a text of many YAML documents.

use anyhow::{Context, Result};
use serde_json::Value;

/// The objects, in their order.
#[derive(Debug)]
pub(super) struct Manifests(Vec<Value>);

impl Manifests {
    /// Reads every document; empty ones are passed over.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).context("this is no YAML")?;
        let mut objects = Vec::new();
        for document in documents.into_iter().filter(|document| !document.is_null()) {
            kind(&document).and_then(|_| name(&document)).context("a document is no Kubernetes object")?;
            objects.push(document);
        }
        Ok(Self(objects))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Value> {
        self.0.iter()
    }

    /// The objects of a kind.
    pub(super) fn of_kind<'a>(&'a self, wanted: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |object| object["kind"] == wanted)
    }

    /// The one object of a kind.
    pub(super) fn the(&self, wanted: &str) -> Result<&Value> {
        let mut found = self.0.iter().filter(|object| object["kind"] == wanted);
        let first = found.next().with_context(|| format!("there is no {wanted}"))?;
        anyhow::ensure!(found.next().is_none(), "there is more than one {wanted}");
        Ok(first)
    }
}

/// Kind and name, as messages have them.
pub(super) fn title(object: &Value) -> String {
    format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"]))
}

/// Text, or nothing where the value is none.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The items of a list, or none where the value is no list.
pub(super) fn items(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn kind(object: &Value) -> Option<&str> {
    object["apiVersion"].as_str().and(object["kind"].as_str())
}

fn name(object: &Value) -> Option<&str> {
    object["metadata"]["name"].as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: a}\n---\n# nothing\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: b}\n";

    #[test]
    fn objects_are_found_by_kind_and_empty_documents_are_none() {
        let manifests = Manifests::parse(TWO).unwrap();
        assert_eq!(manifests.iter().map(title).collect::<Vec<_>>(), ["Secret a", "Pod b"]);
        assert_eq!(title(manifests.the("Pod").unwrap()), "Pod b");
        assert_eq!(manifests.the("Node").unwrap_err().to_string(), "there is no Node");
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let error = format!("{:#}", Manifests::parse("kind: Pod\n").unwrap_err());
        assert!(error.contains("no Kubernetes object"), "{error}");
        assert!(Manifests::parse("a: [").is_err());
    }
}
