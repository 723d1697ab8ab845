"""Runs bfcl-eval's own evaluation of result files: `bfcl evaluate`, without the vendors' SDKs.

Start it with the Python of the environment that holds bfcl-eval: `PYTHON bfcl_evaluation.py evaluate FOLDER MODEL
CATEGORY...`. Results are read from FOLDER/result, scores and leaderboard tables are written into FOLDER/score. With
`prompts FOLDER CATEGORY...` it prints what bfcl-eval asks a model that it prompts, a JSON line a row.

What is not bfcl-eval's own here: the table of models, which would import every SDK, has one model, whose handler
decodes as the handlers of all models on a server of one's own do; and the checkers of multi-turn and agentic
categories, which are not run, are not there.
"""

import json
import os
import sys
import types


class Everything(types.ModuleType):
    """A module in which any name is a function that does nothing."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *arguments, **options: None


def prepare(folder, model):
    os.environ["BFCL_PROJECT_ROOT"] = folder
    for name in (
        "numpy",
        "pandas",
        "dotenv",
        "bfcl_eval.eval_checker.agentic_eval.agentic_checker",
        "bfcl_eval.eval_checker.multi_turn_eval.multi_turn_checker",
        "bfcl_eval.eval_checker.multi_turn_eval.multi_turn_utils",
        "bfcl_eval.model_handler.base_handler",
    ):
        sys.modules[name] = Everything(name)
    tqdm = sys.modules["tqdm"] = types.ModuleType("tqdm")
    tqdm.tqdm = lambda items, **options: items

    class Handler:
        def __init__(self, **options):
            pass

        def decode_ast(self, result, language, has_tool_call_tag):  # OSSHandler.decode_ast
            from bfcl_eval.model_handler.utils import default_decode_ast_prompting

            return default_decode_ast_prompting(result, language, has_tool_call_tag)

    class Models(dict):
        def __missing__(self, name):
            return types.SimpleNamespace(
                model_handler=Handler,
                model_name=model,
                is_fc_model=False,
                underscore_to_dot=False,
                display_name=model,
                url="",
                org="",
                license="",
                input_price=None,
                output_price=None,
            )

        def __contains__(self, name):
            return True

    table = sys.modules["bfcl_eval.constants.model_config"] = types.ModuleType("model_config")
    table.MODEL_CONFIG_MAPPING = Models()


def evaluate(model, *categories):
    from bfcl_eval.eval_checker import eval_runner

    eval_runner.main([model], list(categories), None, None, partial_eval=True)


def prompts(*categories):
    from bfcl_eval.model_handler.utils import system_prompt_pre_processing_chat_model
    from bfcl_eval.utils import load_dataset_entry

    for category in categories:
        for entry in load_dataset_entry(category):  # as BaseHandler.inference_single_turn_prompting does
            messages = system_prompt_pre_processing_chat_model(entry["question"][0], entry["function"], entry["id"])
            print(json.dumps({"id": entry["id"], "messages": messages}))


if __name__ == "__main__":
    what, folder, *words = sys.argv[1:]
    prepare(folder, words[0])
    {"evaluate": evaluate, "prompts": prompts}[what](*words)
