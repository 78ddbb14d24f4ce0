//! A note beside a tool that says from what it was made.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The note of one tool, and what it should say.
pub(super) struct Stamp {
    file: PathBuf,
    recipe: String,
}

impl Stamp {
    /// The stamp of `tool` under the tools folder, for this recipe.
    pub(super) fn new(root: &Path, tool: &str, recipe: String) -> Self {
        Self { file: root.join("stamps").join(tool), recipe }
    }

    /// Runs `install` unless the program is there and was made from this very recipe.
    pub(super) fn unless_fresh(&self, program: &Path, install: impl FnOnce() -> Result<()>) -> Result<()> {
        let fresh = fs::read_to_string(&self.file).is_ok_and(|recipe| recipe == self.recipe);
        if fresh && program.is_file() {
            return Ok(());
        }
        install()?;
        let folder = self.file.parent().context("a stamp lies in a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        fs::write(&self.file, &self.recipe).with_context(|| format!("cannot write {}", self.file.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_tool_is_made_once_for_each_recipe() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("tool");
        let runs = Cell::new(0);
        let make = |recipe: &str| {
            Stamp::new(folder.path(), "tool", recipe.to_owned()).unless_fresh(&program, || {
                runs.set(runs.get() + 1);
                Ok(fs::write(&program, recipe)?)
            })
        };
        make("tool 1").unwrap();
        make("tool 1").unwrap();
        assert_eq!(runs.get(), 1);
        make("tool 2").unwrap();
        assert_eq!(runs.get(), 2);
        fs::remove_file(&program).unwrap();
        make("tool 2").unwrap();
        assert_eq!(runs.get(), 3);
    }

    #[test]
    fn a_failed_installation_leaves_no_stamp() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("tool");
        fs::write(&program, "half").unwrap();
        let stamp = Stamp::new(folder.path(), "tool", "tool 1".to_owned());
        stamp.unless_fresh(&program, || anyhow::bail!("no network")).unwrap_err();
        let mut ran = false;
        stamp
            .unless_fresh(&program, || {
                ran = true;
                Ok(())
            })
            .unwrap();
        assert!(ran);
    }
}
