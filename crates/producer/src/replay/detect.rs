//! Which of the built-in layouts a file has.

use std::path::Path;

use scrutin_files::FileError;
use scrutin_files::table::{Form, Input};

use super::layout::{Kind, LAYOUTS, Layout};
use super::rankings;

/// The built-in layout that a file appears to have, if any.
///
/// # Errors
///
/// If the file cannot be read.
pub fn fitting(path: &Path, form: &Form) -> Result<Option<&'static Layout>, FileError> {
    for layout in LAYOUTS.iter() {
        let form = Form { header_rows: layout.file.header_rows, ..form.clone() };
        if fits(layout, &Input::open(path, &form)?) {
            return Ok(Some(layout));
        }
    }
    Ok(None)
}

/// Whether a file appears to have this layout.
fn fits(layout: &Layout, input: &Input) -> bool {
    let wanted = layout.wanted();
    match layout.kind {
        Kind::Rankings => rankings::fits(input.first_rows()),
        _ if wanted.is_empty() => false,
        _ => match input.find(&wanted, layout.file.header_rows.unwrap_or(1)) {
            Some(place) => {
                input.goes_on(&place, &wanted) == layout.repeat.as_ref().is_some_and(|repeat| !repeat.start.is_empty())
            }
            None => false,
        },
    }
}
