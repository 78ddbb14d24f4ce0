//! Two kinds of patches: RFC 7386, and of RFC 6902 the operations `test` and `remove`.

use serde_json::Value;

/// Merges `patch` into `target` (RFC 7386).
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    if let Value::Object(target) = target {
        for (key, change) in changes {
            if change.is_null() {
                target.remove(key);
            } else {
                merge(target.entry(key.clone()).or_insert(Value::Null), change);
            }
        }
    }
}

/// What `object` becomes; `None` where an operation fails or is not known here.
pub(super) fn json(object: &Value, operations: &Value) -> Option<Value> {
    let mut patched = object.clone();
    for operation in operations.as_array()? {
        let path = operation["path"].as_str()?;
        match operation["op"].as_str()? {
            "test" => (patched.pointer(path)? == &operation["value"]).then_some(())?,
            "remove" => remove(&mut patched, path)?,
            _ => return None,
        }
    }
    Some(patched)
}

fn remove(object: &mut Value, path: &str) -> Option<()> {
    let (parent, last) = path.rsplit_once('/')?;
    match object.pointer_mut(parent)? {
        Value::Array(items) => {
            let index: usize = last.parse().ok()?;
            (index < items.len()).then(|| drop(items.remove(index)))
        }
        Value::Object(fields) => fields.remove(last).map(drop),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_merge_changes_adds_and_removes_fields() {
        let mut object = json!({ "a": 1, "b": { "c": 2, "d": 3 }, "e": [1] });
        merge(&mut object, &json!({ "b": { "c": null, "x": 4 }, "e": [2], "f": { "g": null } }));
        assert_eq!(object, json!({ "a": 1, "b": { "d": 3, "x": 4 }, "e": [2], "f": {} }));
    }

    #[test]
    fn a_json_patch_is_all_or_nothing() {
        let object = json!({ "list": [{ "key": "a" }, { "key": "b" }] });
        let remove = json!({ "op": "remove", "path": "/list/0" });
        let test = |key: &str| json!({ "op": "test", "path": "/list/0/key", "value": key });
        let done = json(&object, &json!([test("a"), remove]));
        assert_eq!(done, Some(json!({ "list": [{ "key": "b" }] })));
        assert_eq!(json(&object, &json!([remove, test("a")])), None);
        assert_eq!(json(&object, &json!([{ "op": "remove", "path": "/list/2" }])), None);
    }
}
