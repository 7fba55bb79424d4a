//! Columns aligned with blanks, as Go's tabwriter does with Docker's settings.

/// Narrowest column.
const MIN_WIDTH: usize = 10;
/// Blanks behind a column's longest cell.
const PADDING: usize = 3;

/// Aligns tab-separated lines. A column ends where a line has no cell for it, as in tabwriter: the
/// last cell of a line (the one no tab follows) takes no part in the alignment.
pub fn align(lines: &[String]) -> String {
    align_with(lines, MIN_WIDTH)
}

/// As [`align`], with another narrowest column.
pub fn align_with(lines: &[String], min_width: usize) -> String {
    let rows: Vec<Vec<&str>> = lines.iter().map(|l| l.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> = rows.iter().map(|r| vec![0; r.len().saturating_sub(1)]).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..columns {
        let mut start = 0;
        while start < rows.len() {
            if rows[start].len() <= column + 1 {
                start += 1;
                continue;
            }
            let end = (start..rows.len()).find(|&r| rows[r].len() <= column + 1).unwrap_or(rows.len());
            let widest = rows[start..end].iter().map(|r| r[column].chars().count()).max().unwrap_or(0);
            for row in &mut widths[start..end] {
                row[column] = (widest + PADDING).max(min_width);
            }
            start = end;
        }
    }
    let mut out = String::new();
    for (row, widths) in rows.iter().zip(&widths) {
        for (i, cell) in row.iter().enumerate() {
            out.push_str(cell);
            if let Some(width) = widths.get(i) {
                out.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count())));
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_padded_and_the_last_is_not() {
        let lines = ["NAME\tX".to_owned(), "a-long-name-here\ty".to_owned()];
        assert_eq!(align(&lines), "NAME               X\na-long-name-here   y\n");
        assert_eq!(align(&["A\tB".to_owned()]), "A         B\n");
    }
}
