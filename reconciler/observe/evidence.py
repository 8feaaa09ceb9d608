"""
What a server shows, as it may be remembered: masks become keyed fingerprints.
"""

from reconciler.model.fingerprints import Fingerprints
from reconciler.model.observed import ObservedServer
from reconciler.model.recorded import Observation


def recorded_view(
    observed: ObservedServer, fingerprints: Fingerprints, uid: str, *, at: str, by: str
) -> Observation:
    """Turn what was seen into what may be remembered: masks become keyed fingerprints."""
    return Observation(
        at=at,
        by=by,
        version=observed.version,
        masks={
            e.code: {f.name: fingerprints.mask(uid, e.code, f.name, f.mask) for f in e.fields}
            for e in observed.exchanges
        },
        credentials={e.code: {f.name: f.credential for f in e.fields} for e in observed.exchanges},
        robots=observed.robots,
        boot=observed.log.boot,
        key_id=fingerprints.key_id,
        troubles={e.code: e.trouble for e in observed.exchanges if e.trouble},
        alarm=observed.log.alarm,
    )
