//! Which members of the tars a volume shows.

use crate::patterns::Patterns;
use crate::relative_path::RelativePath;

/// Where the members of a tar lie, so far as that is known before its bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Area {
    /// Every member is this path or lies beneath it.
    pub(crate) path: RelativePath,
    /// Whether the path is a directory for certain, so that no file is called like it.
    pub(crate) is_directory: bool,
}

/// The attributes `include`, `exclude` and `subPath`, for files whose paths are known only once a tar is here.
///
/// Paths are those of the artifact, after all layers are merged. Directories follow their files: one is shown when it
/// fits itself or something beneath it is shown.
#[derive(Clone, Debug, Default)]
pub struct MemberFilter {
    include: Patterns,
    exclude: Patterns,
    sub_path: Option<RelativePath>,
}

impl MemberFilter {
    pub(crate) const fn new(include: Patterns, exclude: Patterns, sub_path: Option<RelativePath>) -> Self {
        Self { include, exclude, sub_path }
    }

    /// Whether nothing is left out.
    pub fn is_everything(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty() && self.sub_path.is_none()
    }

    /// The globs of what is taken; everything when empty.
    pub fn include(&self) -> &[String] {
        self.include.globs()
    }

    /// The globs of what is left out.
    pub fn exclude(&self) -> &[String] {
        self.exclude.globs()
    }

    /// The directory that becomes the root of the volume.
    pub const fn sub_path(&self) -> Option<&RelativePath> {
        self.sub_path.as_ref()
    }

    /// Whether the volume shows the file at `path` of the artifact.
    pub fn matches(&self, path: &str) -> bool {
        self.place(path).is_some()
    }

    /// Where in the volume the file at `path` of the artifact stands; `None` for one that is left out.
    pub fn place<'a>(&self, path: &'a str) -> Option<&'a str> {
        let inside = match &self.sub_path {
            None => path,
            Some(sub_path) => path.strip_prefix(sub_path.as_str())?.strip_prefix('/')?,
        };
        (self.takes(path) && !inside.is_empty()).then_some(inside)
    }

    /// Whether `include` and `exclude` take a path, wherever it lies.
    pub(crate) fn takes(&self, path: &str) -> bool {
        (self.include.is_empty() || self.include.fits(path)) && !self.exclude.fits(path)
    }

    /// Whether `exclude` names this very path.
    pub(crate) fn excludes(&self, path: &RelativePath) -> bool {
        self.exclude.fits(path.as_str())
    }

    /// Whether some file in `area` could be shown; `true` where that cannot be told.
    pub(crate) fn may_take_in(&self, area: &Area) -> bool {
        let path = &area.path;
        let reachable = self.sub_path.as_ref().is_none_or(|sub_path| {
            path == sub_path || path.is_beneath(sub_path) || sub_path.is_beneath(path)
        });
        let included = self.include.is_empty() || self.include.may_fit_within(path);
        let all_beneath_excluded = self.exclude.fits_all_beneath(path);
        reachable && included && !(all_beneath_excluded && (area.is_directory || self.excludes(path)))
    }
}

impl PartialEq for MemberFilter {
    fn eq(&self, other: &Self) -> bool {
        self.include() == other.include()
            && self.exclude() == other.exclude()
            && self.sub_path == other.sub_path
    }
}

impl Eq for MemberFilter {}

#[cfg(test)]
mod tests {
    use super::{Area, MemberFilter};
    use crate::RelativePath;
    use crate::patterns::Patterns;

    type Globs = &'static [&'static str];

    fn filter(include: &[&str], exclude: &[&str], sub_path: Option<&str>) -> MemberFilter {
        let globs = |globs: &[&str]| {
            Patterns::compile(&globs.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
        };
        let sub_path = sub_path.map(|path| RelativePath::parse(path).unwrap());
        MemberFilter::new(globs(include), globs(exclude), sub_path)
    }

    #[test]
    fn files_are_placed_as_the_attributes_say() {
        let all = MemberFilter::default();
        assert!(all.is_everything() && all.matches("a/b"));
        let some = filter(&["w/**"], &["**/*.bin"], Some("w"));
        assert_eq!(some.place("w/a/b"), Some("a/b"));
        for left_out in ["w", "w/", "w/a.bin", "wx/a", "x", ""] {
            assert_eq!(some.place(left_out), None, "{left_out}");
        }
    }

    #[test]
    fn a_whole_directory_is_left_out_only_where_that_is_certain() {
        let area = RelativePath::parse("data/set").unwrap();
        let table: &[(Globs, Globs, Option<&str>, bool)] = &[
            (&[], &[], None, true),
            (&["*.json"], &[], None, false),
            (&["*/*.json"], &[], None, false),
            (&["*/*"], &[], None, true),
            (&["*/*/*.json"], &[], None, true),
            (&["[a-z]*.json"], &[], None, true),
            (&["{model,data/set/a}"], &[], None, true),
            (&["**/*.json"], &[], None, true),
            (&["model/**"], &[], None, false),
            (&["model/**", "data/*/x"], &[], None, true),
            (&["{model,data}/**"], &[], None, true),
            (&["data"], &[], None, false),
            (&["data/set"], &[], None, true),
            (&["data/set/a"], &[], None, true),
            (&["data/other/a"], &[], None, false),
            (&["dat?/**"], &[], None, true),
            (&[], &["**"], None, false),
            (&[], &["data/**"], None, false),
            (&[], &["data/set/**"], None, true),
            (&[], &["data/set", "data/set/**"], None, false),
            (&[], &["data/*"], None, true),
            (&[], &["d*/**"], None, true),
            (&[], &[], Some("data"), true),
            (&[], &[], Some("data/set"), true),
            (&[], &[], Some("data/set/deep"), true),
            (&[], &[], Some("model"), false),
            (&[], &[], Some("data/set2"), false),
        ];
        for (include, exclude, sub_path, expected) in table {
            let area = Area { path: area.clone(), is_directory: false };
            let found = filter(include, exclude, *sub_path).may_take_in(&area);
            assert_eq!(found, *expected, "{include:?} {exclude:?} {sub_path:?}");
        }
        let beneath = filter(&[], &["data/set/**"], None);
        assert!(!beneath.may_take_in(&Area { path: area, is_directory: true }));
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_would_be_shown_lies_in_a_directory_that_is_left_out(
            include in proptest::collection::vec("[ab*?]{1,2}(/[ab*?]{1,2}){0,2}(/\\*\\*)?", 0..2),
            exclude in proptest::collection::vec("(\\*\\*/)?[ab*?]{1,2}(/[ab]){0,1}(/\\*\\*)?", 0..2),
            sub_path in proptest::option::of("[ab](/[ab])?"),
            area in "[ab](/[ab]){0,2}",
            beneath in "(/[ab]{1,2}){0,3}",
        ) {
            let globs = |globs: &[String]| Patterns::compile(globs);
            if let (Ok(include), Ok(exclude)) = (globs(&include), globs(&exclude)) {
                let sub_path = sub_path.map(|path| RelativePath::parse(&path).unwrap());
                let filter = MemberFilter::new(include, exclude, sub_path);
                let path = RelativePath::parse(&area).unwrap();
                let shown = filter.matches(&format!("{area}{beneath}"));
                let area = Area { path, is_directory: !beneath.is_empty() };
                proptest::prop_assert!(!shown || filter.may_take_in(&area));
            }
        }
    }
}
