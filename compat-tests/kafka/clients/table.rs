//! Tables of cells, compared and printed.
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::outcome::{Cell, Stop};

/// Cells that take longer are named, for whoever looks for the time that the tests take.
const SLOW: Duration = Duration::from_secs(20);

/// Cells by row and column.
pub struct Table {
    title: &'static str,
    columns: Vec<String>,
    cells: Vec<(String, String, Cell)>,
}

impl Table {
    pub fn new(title: &'static str, columns: &[&str]) -> Self {
        Self {
            title,
            columns: columns.iter().map(|name| name.to_string()).collect(),
            cells: Vec::new(),
        }
    }

    pub fn put(&mut self, row: &str, column: &str, cell: Cell) {
        self.cells.push((row.to_string(), column.to_string(), cell));
    }

    fn get(&self, row: &str, column: &str) -> Option<&Cell> {
        let found = self.cells.iter().find(|cell| cell.0 == row && cell.1 == column);
        found.map(|(.., cell)| cell)
    }

    /// How many cells passed.
    pub fn passed(&self) -> usize {
        self.cells.iter().filter(|(.., cell)| cell.outcome.is_ok()).count()
    }

    /// One line for each cell that is not as in the table of Apache Kafka.
    pub fn differences(&self, apache: &Self) -> Vec<String> {
        let differs = |(row, column, ours): &(String, String, Cell)| {
            let theirs = apache.get(row, column)?;
            (ours.essence() != theirs.essence())
                .then(|| format!("{row}, {column}: {ours:?}, on Apache Kafka {theirs:?}"))
        };
        self.cells.iter().filter_map(differs).collect()
    }

    /// What there is to say of the cells of a row, each with the columns where it is so.
    fn remarks(&self, row: &str) -> Vec<(String, Vec<&str>)> {
        let mut remarks: Vec<(String, Vec<&str>)> = Vec::new();
        for (_, column, cell) in self.cells.iter().filter(|cell| cell.0 == row) {
            for remark in cell.remarks() {
                match remarks.iter_mut().find(|(known, _)| *known == remark) {
                    Some((_, columns)) => columns.push(column),
                    None => remarks.push((remark, vec![column])),
                }
            }
        }
        remarks
    }

    fn rows(&self) -> Vec<&str> {
        let mut rows: Vec<_> = self.cells.iter().map(|(row, ..)| row.as_str()).collect();
        rows.dedup();
        rows
    }
}

impl Cell {
    /// What there is to say beyond how it ended.
    fn remarks(&self) -> Vec<String> {
        let slow = (self.took > SLOW).then(|| format!("took {:.0?}", self.took));
        let ended = match &self.outcome {
            Ok(()) => self.note.clone(),
            Err(Stop::Unsupported(why)) => format!("- {why}"),
            Err(Stop::Failed { code, what }) => format!("FAILED {code} {what}"),
        };
        slow.into_iter()
            .chain(Some(ended).filter(|ended| !ended.is_empty()))
            .collect()
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let rows = self.rows();
        let first = rows
            .iter()
            .map(|row| row.len())
            .max()
            .unwrap_or(0)
            .max(self.title.len());
        write!(f, "{:first$}", self.title)?;
        for column in &self.columns {
            write!(f, " {column}")?;
        }
        for row in &rows {
            write!(f, "\n{row:first$}")?;
            for column in &self.columns {
                let mark = match self.get(row, column).map(|cell| &cell.outcome) {
                    None => "",
                    Some(Ok(())) => "ok",
                    Some(Err(Stop::Unsupported(_))) => "-",
                    Some(Err(Stop::Failed { .. })) => "FAILED",
                };
                write!(f, " {mark:width$}", width = column.len())?;
            }
        }
        writeln!(f, "\n{} of {} cells pass", self.passed(), self.cells.len())?;
        for row in rows {
            self.remarks(row)
                .iter()
                .try_for_each(|(remark, columns)| writeln!(f, "{row}: {remark} ({})", columns.join(", ")))?;
        }
        Ok(())
    }
}
