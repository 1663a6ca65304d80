//! What callers saw of a node.

/// What one caller saw, or many. Times are in milliseconds.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) answers: u64,
    pub(crate) wrong: u64,
    pub(crate) reconnected: u64,
    /// The age of the data at each answer, and at each heartbeat that was stated the age by that.
    pub(crate) ages: Vec<f64>,
    pub(crate) stated: Vec<f64>,
    /// How often it was said that the file could not be looked at.
    pub(crate) silent: u64,
    /// How long answers took while no read node was taking a state over, and while one was.
    pub(crate) quiet: Vec<f64>,
    pub(crate) beside: Vec<f64>,
}

impl Seen {
    pub(crate) fn add(&mut self, other: Self) {
        self.answers += other.answers;
        self.wrong += other.wrong;
        self.reconnected += other.reconnected;
        self.ages.extend(other.ages);
        self.stated.extend(other.stated);
        self.silent += other.silent;
        self.quiet.extend(other.quiet);
        self.beside.extend(other.beside);
    }
}
