//! Images and layers; the image store does the work.

use ferry_image::{DefectKind, Mended};

use super::{Check, Outcome};
use crate::error::Result;
use crate::image::in_use;

impl Check<'_> {
    pub(super) fn images(&mut self) -> Result<()> {
        let checked = self.inner.images.check(self.options.deep)?;
        (self.report.images, self.report.layers) = (checked.images, checked.layers);
        for defect in checked.defects {
            let remedy = match &defect.kind {
                DefectKind::Database => "the next start of the daemon builds it anew",
                DefectKind::Config(_) | DefectKind::MissingLayer(_) => "set the image aside",
                DefectKind::Layer(_) => "set the layer and the images that need it aside",
                DefectKind::Manifest(_) => "set the manifest aside; the image goes on without it",
                DefectKind::Name(_) => "remove the name",
                DefectKind::StrayDocument | DefectKind::StrayLayer => "set it aside",
            };
            let (path, detail) = (defect.path.clone(), defect.detail.clone());
            self.problem("image", &path, detail, remedy, |check| {
                let used = |id: &ferry_image::ImageId| in_use(check.inner, id);
                match check.inner.images.mend(&defect, &check.aside, &used) {
                    Ok(Mended::Done(how)) => Ok(Outcome::Repaired(how)),
                    Ok(Mended::Left(why)) => Ok(Outcome::Left(why)),
                    Err(error) => Err(error.to_string()),
                }
            });
        }
        Ok(())
    }
}
