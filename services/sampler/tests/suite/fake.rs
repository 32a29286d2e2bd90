//! A transformer whose logits are a hash of the sequence so far. It counts its steps, and blocks or fails on demand.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use easel_sampler::{
    draws,
    engine::{Candidate, Request},
    logits::{self, Picker},
    model::{Error, Geometry, Model, Prefix, Row, Rules},
};

/// What a test asks of the fake: called with a step's rows before it is taken.
type Fault = Box<dyn Fn(&[Row]) -> Option<Error> + Send>;

#[derive(Default)]
struct State {
    /// Steps that were begun, the one that is blocked included.
    begun: usize,
    /// Steps that may still be taken; none: any number.
    permits: Option<usize>,
    /// Rows of each step that was taken.
    rows: Vec<Vec<Row>>,
    fault: Option<Fault>,
}

/// The test's hold on its fake.
#[derive(Clone, Default)]
pub(crate) struct Control {
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Control {
    /// Lets no step happen from now on.
    pub(crate) fn hold(&self) {
        self.change(|state| state.permits = Some(0));
    }

    /// Lets `steps` more happen.
    pub(crate) fn allow(&self, steps: usize) {
        self.change(|state| state.permits = Some(state.permits.unwrap_or(0) + steps));
    }

    /// Lets all happen.
    pub(crate) fn release(&self) {
        self.change(|state| state.permits = None);
    }

    /// Returns when a step is blocked.
    pub(crate) fn wait_blocked(&self) {
        let (state, changed) = &*self.state;
        let blocked = |state: &mut State| !(state.permits == Some(0) && state.begun > state.rows.len());
        drop(changed.wait_while(state.lock().unwrap(), blocked).unwrap());
    }

    pub(crate) fn fail(&self, fault: impl Fn(&[Row]) -> Option<Error> + Send + 'static) {
        self.change(|state| state.fault = Some(Box::new(fault)));
    }

    /// The rows of each step so far.
    pub(crate) fn steps(&self) -> Vec<Vec<Row>> {
        self.lock().rows.clone()
    }

    /// Forgets the steps so far.
    pub(crate) fn reset(&self) {
        self.change(|state| {
            state.begun -= state.rows.len();
            state.rows.clear();
        });
    }

    fn step(&self, rows: &[Row]) -> Result<(), Error> {
        self.change(|state| state.begun += 1);
        let changed = &self.state.1;
        let mut state = changed.wait_while(self.lock(), |state| state.permits == Some(0)).unwrap();
        if let Some(permits) = &mut state.permits {
            *permits -= 1;
        }
        state.rows.push(rows.to_vec());
        changed.notify_all();
        match state.fault.as_ref().and_then(|fault| fault(rows)) {
            Some(Error::Panicked(message)) => {
                drop(state);
                panic!("{message}");
            }
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.state.1.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap()
    }
}

/// Text id that, at position 0, makes all logits of the sequence NaN.
pub(crate) const POISON: u32 = 13;

pub(crate) struct Fake {
    pub(crate) control: Control,
    pub(crate) rules: Rules,
    /// Logits are 0, 1, 2 or 3, so that many are equal.
    pub(crate) coarse: bool,
    geometry: Geometry,
    /// Of each sequence, a hash of the tokens up to each position.
    slots: Vec<Vec<u64>>,
    poisoned: Vec<u64>,
    logits: Vec<f32>,
}

impl Fake {
    pub(crate) fn new(geometry: Geometry, sequences: usize) -> Self {
        let poisoned = vec![mix(0, POISON)];
        let slots = vec![Vec::new(); sequences];
        let (control, rules) = (Control::default(), Rules::default());
        Self { control, rules, coarse: false, geometry, slots, poisoned, logits: Vec::new() }
    }
}

impl Model for Fake {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn rules(&self) -> Rules {
        self.rules.clone()
    }

    fn sequences(&self) -> usize {
        self.slots.len()
    }

    fn device(&self) -> String {
        "cpu".to_owned()
    }

    fn begin(&mut self, slot: usize, prefix: Option<Prefix>) -> Result<(), Error> {
        let start = prefix.map_or(Vec::new(), |prefix| self.slots[prefix.slot][..prefix.length as usize].to_vec());
        self.slots[slot] = start;
        Ok(())
    }

    fn rewinds(&self) -> usize {
        16
    }

    fn rewind(&mut self, slot: usize, length: usize) -> Result<(), Error> {
        let sequence = &mut self.slots[slot];
        assert!((self.geometry.text_length..=sequence.len()).contains(&length));
        sequence.truncate(length);
        Ok(())
    }

    fn step(&mut self, rows: &[Row]) -> Result<&[f32], Error> {
        self.control.step(rows)?;
        self.logits.clear();
        let Geometry { text_length, cells, .. } = self.geometry;
        let rows_of_grid = cells.checked_div(self.rules.columns).unwrap_or(0);
        let most = text_length + cells + rows_of_grid * self.rules.row_end.len();
        for row in rows {
            let sequence = &mut self.slots[row.slot];
            assert_eq!(row.position as usize, sequence.len(), "the positions of a slot have a gap");
            assert!(sequence.len() < most);
            let hash = mix(sequence.last().copied().unwrap_or(0), row.token);
            sequence.push(hash);
            if !row.logits {
                continue;
            }
            let poisoned = self.poisoned.contains(&sequence[0]);
            let logit = |code| if poisoned { f32::NAN } else { (mix(hash, code) >> 40) as f32 / (1 << 22) as f32 };
            let step = |logit: f32| if self.coarse { logit.floor() } else { logit };
            self.logits.extend((0..self.geometry.codebook as u32).map(|code| step(logit(code))));
        }
        Ok(&self.logits)
    }
}

fn mix(hash: u64, token: u32) -> u64 {
    let [low, high, ..] = draws::philox([hash as u32, (hash >> 32) as u32, token, 1], [5, 7]);
    u64::from(high) << 32 | u64::from(low)
}

/// What a candidate must become, by the book: one token a step, no batch, nothing shared, an own sequence for the unconditional row.
pub(crate) fn by_the_book(
    model: &mut impl Model,
    request: &Request,
    candidate: Candidate,
) -> (Vec<u32>, (f64, Option<f64>)) {
    let Geometry { cells, text_length, .. } = model.geometry();
    let rules = model.rules();
    let sequences: Vec<&Vec<u32>> =
        [Some(&request.text), request.unconditional.as_ref()].into_iter().flatten().collect();
    (0..sequences.len()).for_each(|slot| model.begin(slot, None).unwrap());
    let mut feed = |slot: usize, position: usize, token: u32| {
        let row = Row { slot, token, position: position as u32, logits: true };
        model.step(&[row]).unwrap().to_vec()
    };
    let mut logits = vec![Vec::new(); sequences.len()];
    for (slot, text) in sequences.iter().enumerate() {
        for (position, &token) in (text_length - text.len()..).zip(*text) {
            logits[slot] = feed(slot, position, token);
        }
    }
    let (mut picker, mut guided, mut tokens) = (Picker::with_ties(rules.top_k_ties), Vec::new(), Vec::new());
    let mut position = text_length;
    let mut likelihoods = vec![0.0; sequences.len()];
    for cell in 0..cells {
        let given = request.given.iter().find(|given| given.0 as usize == cell);
        let token = given.map_or_else(
            || {
                let mut row = &logits[0];
                let is_guided = rules.guided_tokens.is_none_or(|guided| cell < guided as usize);
                if let ([conditional, unconditional], true) = (&*logits, is_guided) {
                    logits::guide(conditional, unconditional, request.parameters.guidance_scale, &mut guided);
                    row = &guided;
                }
                let uniform = draws::uniform(candidate.seed, cell as u32);
                let token = picker.draw(row, &request.parameters, uniform).unwrap();
                for (likelihood, row) in likelihoods.iter_mut().zip(&logits) {
                    *likelihood += logits::log_likelihood(row, token);
                }
                token
            },
            |given| given.1,
        );
        tokens.push(token);
        let ends = (cell + 1).checked_rem(rules.columns) == Some(0);
        let behind = if ends { &*rules.row_end } else { &[] };
        for &token in std::iter::once(&token).chain(behind).take_while(|_| cell + 1 < cells) {
            logits = (0..sequences.len()).map(|slot| feed(slot, position, token)).collect();
            position += 1;
        }
    }
    (tokens, (likelihoods[0], likelihoods.get(1).copied()))
}
