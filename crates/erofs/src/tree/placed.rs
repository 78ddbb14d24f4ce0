//! Tars whose members are named from a directory of the volume, or may lie in a part of it only.

use stowage_artifact::RelativePath;

use super::path::trim;
use super::{MergeError, Rules};
use crate::index::{MemberKind, TarIndex};
use crate::tar::{TarError, printable};

impl TarIndex {
    /// The same members in the directory `at`. Symlinks stay as they are: they are read from where they stand.
    pub fn beneath(&self, at: &RelativePath, rules: Rules) -> Result<Self, TarError> {
        self.renamed(|name| {
            let (_, path) = trim(name, rules);
            let mut placed = at.as_str().as_bytes().to_vec();
            if !path.is_empty() {
                placed.push(b'/');
                placed.extend_from_slice(path);
            }
            placed
        })
    }

    /// Refuses members that are not `area`, do not lie beneath it and are no directory above it. `layer` is what messages call
    /// the tar.
    pub fn check_within(&self, area: &RelativePath, rules: Rules, layer: &str) -> Result<(), MergeError> {
        let area = area.as_str().as_bytes();
        let lies_in = |path: &[u8], area: &[u8]| {
            path.strip_prefix(area).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        for member in self.members() {
            let (_, path) = trim(member.path, rules);
            let leads_there =
                member.kind == MemberKind::Directory && (path.is_empty() || lies_in(area, path));
            if !lies_in(path, area) && !leads_there {
                return Err(MergeError::Elsewhere {
                    layer: layer.to_owned(),
                    path: printable(member.path),
                    area: String::from_utf8_lossy(area).into_owned(),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use stowage_testkit::artifacts::Tar;

    use super::*;
    use crate::tar::TarIndexer;

    fn index(members: &[(&str, u8, &str)]) -> TarIndex {
        let add = |tar: Tar, (name, kind, link): &(&str, u8, &str)| tar.member(*kind, name, link, b"", 0o644);
        let mut indexer = TarIndexer::new();
        indexer.push(&members.iter().fold(Tar::new(), add).bytes()).unwrap();
        indexer.finish().unwrap()
    }

    #[test]
    fn members_and_hard_links_move_together_and_symlinks_stay() {
        let tar = index(&[("./", b'5', ""), ("./a", b'0', ""), ("b", b'1', "./a"), ("c", b'2', "a")]);
        let placed = tar.beneath(&RelativePath::parse("model/data").unwrap(), Rules::Files).unwrap();
        let found: Vec<_> = placed
            .members()
            .map(|member| (String::from_utf8_lossy(member.path), String::from_utf8_lossy(member.link)))
            .collect();
        let expected = [
            ("model/data", ""),
            ("model/data/a", ""),
            ("model/data/b", "model/data/a"),
            ("model/data/c", "a"),
        ];
        assert!(found.iter().map(|(path, link)| (&**path, &**link)).eq(expected), "{found:?}");
        assert_eq!(placed.tar_bytes(), tar.tar_bytes());
    }

    #[test]
    fn names_that_climb_are_refused_wherever_they_are_put() {
        for name in ["../x", "/x", "a/../../x"] {
            let tar = index(&[(name, b'0', "")]);
            let placed = tar.beneath(&RelativePath::parse("model").unwrap(), Rules::Files).unwrap();
            let layers = [crate::Layer { name: "layer", blob: "b", index: &placed }];
            crate::merge(&layers, Rules::Files, crate::Selection::default()).unwrap_err();
        }
    }

    #[test]
    fn only_what_leads_to_the_area_or_lies_in_it_passes() {
        let area = RelativePath::parse("a/b").unwrap();
        let check =
            |members: &[(&str, u8, &str)]| index(members).check_within(&area, Rules::Files, "layer 1");
        check(&[("./", b'5', ""), ("a/", b'5', ""), ("a/b/", b'5', ""), ("a/b/c", b'0', "")]).unwrap();
        check(&[("a/b", b'0', "")]).unwrap();
        for (name, flag) in [("a", b'0'), ("a/bc", b'0'), ("a/c", b'5'), ("x", b'0'), ("", b'0')] {
            let error = check(&[(name, flag, "")]);
            assert!(error.is_err() || (name.is_empty() && error.is_ok()), "{name}");
        }
        let said = check(&[("a/bc", b'0', "")]).unwrap_err().to_string();
        assert_eq!(
            said,
            "layer 1 has the member `a/bc`, and the artifact says that all of it is in `a/b`: use `tar: file`"
        );
    }
}
