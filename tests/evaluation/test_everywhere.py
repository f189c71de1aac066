"""What the check of all settings tells of each."""

from __future__ import annotations

import json
import sys

import torch

from nvae_codec.evaluation.everywhere import list_settings


def test_settings_name_torch_and_no_place_of_this_machine() -> None:
    settings = list_settings([sys.executable])
    described = [setting.describe() for setting in settings]
    assert len({json.dumps(each) for each in described}) == len(settings) == 8
    assert {setting.python for setting in settings} == {sys.executable}
    assert {each["torch"] for each in described} == {torch.__version__}
    assert sys.executable not in json.dumps(described)
