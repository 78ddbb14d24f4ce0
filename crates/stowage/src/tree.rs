//! A directory tree in characters, as a person draws it.

use std::collections::BTreeMap;

/// The names of one directory: a note for a file, more names for a directory.
#[derive(Debug, Default)]
pub(crate) struct Tree(BTreeMap<String, Node>);

#[derive(Debug)]
enum Node {
    File(String),
    Directory(Tree),
}

impl Tree {
    /// Adds the file at `path` with a note that stands behind its name.
    pub(crate) fn add(&mut self, path: &str, note: String) {
        match path.split_once('/') {
            None => {
                self.0.insert(path.to_owned(), Node::File(note));
            }
            Some((directory, rest)) => {
                let node =
                    self.0.entry(directory.to_owned()).or_insert_with(|| Node::Directory(Self::default()));
                if let Node::Directory(tree) = node {
                    tree.add(rest, note);
                }
            }
        }
    }

    /// The lines of the tree, each behind `indent`; at most `limit` of them and a word on the rest.
    pub(crate) fn lines(&self, indent: &str, limit: usize) -> Vec<String> {
        let mut lines = Vec::new();
        self.draw(indent, &mut lines);
        if lines.len() > limit {
            let more = lines.len() - limit;
            lines.truncate(limit);
            lines.push(format!("{indent}… and {more} more"));
        }
        lines
    }

    fn draw(&self, indent: &str, lines: &mut Vec<String>) {
        let last = self.0.len().saturating_sub(1);
        for (index, (name, node)) in self.0.iter().enumerate() {
            let (branch, below) =
                if index == last { ("└── ", "    ") } else { ("├── ", "│   ") };
            match node {
                Node::File(note) => lines.push(format!("{indent}{branch}{name}  {note}")),
                Node::Directory(tree) => {
                    lines.push(format!("{indent}{branch}{name}/"));
                    tree.draw(&format!("{indent}{below}"), lines);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_directories_are_drawn_in_order() {
        let mut tree = Tree::default();
        tree.add("b.txt", "2 B".to_owned());
        tree.add("a/x", "1 B".to_owned());
        tree.add("a/y", "3 B".to_owned());
        assert_eq!(
            tree.lines("  ", 10),
            ["  ├── a/", "  │   ├── x  1 B", "  │   └── y  3 B", "  └── b.txt  2 B"]
        );
        assert_eq!(tree.lines("", 1), ["├── a/", "… and 3 more"]);
    }
}
