//! Templates of the layers: which recipe files are some, found once per process and layer, and which makes a name.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, OnceLock};

use rayon::prelude::*;

use super::layers::{self, Layers};
use super::recipes::{self, Found, Place, RecipeError};
use crate::model::name::{self, Name};
use crate::recipe::form::{self, ENDINGS};
use crate::recipe::template::Mismatch;
use crate::recipe::{self, Template};
use crate::sys::fs::{self, PathError};

/// A recipe file that is a template.
#[derive(Debug, Clone)]
pub struct TemplateFile {
    /// Its path below `build-scripts/`: the name that users know it by.
    pub id: String,
    /// Where it is.
    pub place: Place,
    /// What it says.
    pub template: Template,
}

/// The templates of one layer, once they were looked for.
#[derive(Debug, Clone, Default)]
pub struct Memo(Arc<OnceLock<Vec<TemplateFile>>>);

/// How much of a file is read to see whether it is a template, in bytes: headers stand at the top.
const HEAD: usize = 64 << 10;

static BUILT_IN: LazyLock<Vec<TemplateFile>> = LazyLock::new(|| {
    let all = recipes::built_in_files();
    all.filter_map(|(id, bytes)| of(&id, bytes, Place::BuiltIn(id.clone()))).collect()
});

impl Memo {
    /// The templates below a directory of recipes. What cannot be read is none: [`recipes::all`] tells of it.
    fn get(&self, base: &Path, kind: &'static str) -> &[TemplateFile] {
        self.0.get_or_init(|| {
            let mut files: Vec<(String, PathBuf)> = Vec::new();
            recipes::walk(base, &mut Vec::new(), &mut Vec::new(), &mut |id, path| files.push((id.to_owned(), path)));
            files.sort();
            // Opening a file costs a round trip on a network file system: all at once, then.
            let read = |(id, path): &(String, PathBuf)| of_file(id, path, kind).ok().flatten();
            files.par_iter().filter_map(read).collect()
        })
    }
}

pub(super) fn of(id: &str, bytes: &[u8], place: Place) -> Option<TemplateFile> {
    is_meant(bytes).then(|| recipe::template_of(id, bytes)).flatten().map(|template| TemplateFile {
        id: form::without_ending(id).to_owned(),
        place,
        template,
    })
}

/// Whether a line says `#TARGET:`; cheap, for all the recipes that are none.
pub(super) fn is_meant(bytes: &[u8]) -> bool {
    bytes.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"#TARGET:"))
}

fn of_file(id: &str, path: &Path, kind: &'static str) -> Result<Option<TemplateFile>, RecipeError> {
    let head = fs::read_start(path, HEAD)?;
    if !is_meant(&head) {
        return Ok(None);
    }
    Ok(of(id, &recipes::read_file(path)?, Place::File(path.to_owned(), kind)))
}

/// The templates of each layer, those of the first layer first; hidden ones (the same path in an earlier layer) too.
pub fn all(layers: &Layers) -> impl Iterator<Item = &TemplateFile> {
    let remote = layers.remotes().iter().flat_map(|remote| remote.templates());
    layers.with_memos().flat_map(|(dir, memo)| memo_of(dir, memo)).chain(remote).chain(BUILT_IN.iter())
}

fn memo_of<'a>(dir: &crate::config::LayerDir, memo: &'a Memo) -> &'a [TemplateFile] {
    memo.get(&layers::build_scripts(dir), dir.kind)
}

/// The template of one layer that makes a name. A value outside a closed list is kept: another layer may do better.
pub(super) fn find_in(
    templates: &[TemplateFile],
    name: &Name,
    outside: &mut Option<Box<Mismatch>>,
) -> Result<Option<Found>, RecipeError> {
    let mut found: Option<&TemplateFile> = None;
    for file in templates {
        match file.template.matches(name) {
            Ok(None) => {}
            Ok(Some(_)) => match found {
                Some(first) => {
                    let (first, second) = (first.label(), file.label());
                    return Err(RecipeError::TwoTemplates { name: name.clone(), first, second });
                }
                None => found = Some(file),
            },
            Err(error) if matches!(*error, Mismatch::Outside { .. }) => drop(outside.get_or_insert(error)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(found.map(|file| Found { name: name.clone(), place: file.place.clone() }))
}

/// The template of one layer directory, or of the binary, that makes a name.
pub(super) fn find(
    layer: Option<(&crate::config::LayerDir, &Memo)>,
    name: &Name,
    outside: &mut Option<Box<Mismatch>>,
) -> Result<Option<Found>, RecipeError> {
    match layer {
        Some((dir, memo)) => find_in(memo_of(dir, memo), name, outside),
        None => find_in(&BUILT_IN, name, outside),
    }
}

/// The template that a user means by its path, as in `grch38/star-gencode`, or by its pattern; the first layer's.
pub fn named(layers: &Layers, text: &str) -> Result<Option<TemplateFile>, PathError> {
    if text.contains('{') {
        return Ok(all(layers).find(|file| file.template.pattern == text).cloned());
    }
    let parts = name::split(text);
    if parts.len() > name::MOST_PARTS || parts.iter().any(|part| name::check_part(part).is_err()) {
        return Ok(None);
    }
    let id = parts.join("/");
    for dir in layers.dirs() {
        let base = layers::build_scripts(dir);
        for (ending, _) in ENDINGS {
            let path = base.join(format!("{id}{ending}"));
            if fs::metadata_if_exists(&path)?.is_some_and(|meta| meta.is_file()) {
                // What cannot be read fails as the recipe it is then taken for.
                return Ok(of_file(&id, &path, dir.kind).ok().flatten());
            }
        }
    }
    for remote in layers.remotes() {
        if remote.find(&id).is_some() {
            return Ok(remote.templates().iter().find(|file| file.id == id).cloned());
        }
    }
    Ok(BUILT_IN.iter().find(|file| file.id == id).cloned())
}

impl TemplateFile {
    /// Its name in messages: the path, or `built-in:cytoscape`.
    pub fn label(&self) -> String {
        self.place.label()
    }

    /// Its bytes, as they stand.
    pub fn read(&self) -> Result<Vec<u8>, RecipeError> {
        self.place.read()
    }
}
