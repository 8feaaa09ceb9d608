"""Whatever is planned, its JSON fits the schema that others read it by."""

import json

from hypothesis import given, settings
from jsonschema import Draft202012Validator

from reconciler.documents.schema import PLAN, document
from reconciler.model.plan import Plan
from reconciler.plan.server import plan_server
from reconciler.render.registry import plan_renderer
from tests.support.counts import drawn
from tests.support.strategies import QUICK, PlannerInput, planner_inputs

SCHEMA = Draft202012Validator(document(PLAN))


@settings(QUICK, max_examples=drawn(100))
@given(made=planner_inputs())
def test_every_plan_fits_its_schema(made: PlannerInput) -> None:
    server = plan_server(made.desired, made.observation, made.recorded, made.facts, made.consents)
    text = plan_renderer("json").plan(Plan((server,)), server.exit_code, recorded=True)

    SCHEMA.validate(json.loads(text))
