"""Runs BFCL's own checker, line by line. Start it with the Python of the environment that holds bfcl-eval.

Reads JSON lines `{"reply", "functions", "possible_answer", "category", "underscore_to_dot"}`, where the reply is a text
or a list of calls; writes, for each, `[valid, error type or null]`, or `["crash", exception]`. For a line that holds a
list of such objects it writes `{"cpu": seconds, "verdicts": [...]}`: the CPU time of judging them all.
"""

import gc
import json
import os
import sys
import tempfile
import time
import types
import warnings

warnings.simplefilter("ignore")


def load_peer(folder):
    os.environ["BFCL_PROJECT_ROOT"] = folder  # it makes folders there as it is imported
    # the checker reads one attribute of its models' table; the real table would import every vendor's SDK
    table = types.ModuleType("bfcl_eval.constants.model_config")
    table.MODEL_CONFIG_MAPPING = {
        "dots": types.SimpleNamespace(underscore_to_dot=False),
        "underscores": types.SimpleNamespace(underscore_to_dot=True),
    }
    sys.modules["bfcl_eval.constants.model_config"] = table
    from bfcl_eval.constants.enums import Language, ReturnFormat
    from bfcl_eval.eval_checker.ast_eval.ast_checker import ast_checker
    from bfcl_eval.model_handler.utils import default_decode_ast_prompting
    from bfcl_eval.utils import is_empty_output, is_function_calling_format_output

    def decode(reply):
        return default_decode_ast_prompting(reply, ReturnFormat.PYTHON, False) if isinstance(reply, str) else reply

    def judge(case):
        category = case["category"]
        try:
            calls = decode(case["reply"])
        except Exception:
            calls = None
            if "relevance" not in category:
                return [False, "ast_decoder:decoder_failed"]
        if "relevance" in category:
            has_call = calls is not None and not is_empty_output(calls)
            if has_call != ("irrelevance" in category):
                return [True, None]
            return [False, "irrelevance_error:decoder_success" if has_call else "relevance_error:decoder_failed"]
        if not is_function_calling_format_output(calls):
            return [False, "ast_decoder:decoder_wrong_output_format"]
        model = "underscores" if case.get("underscore_to_dot") else "dots"
        key = case["possible_answer"]
        try:
            result = ast_checker(case["functions"], calls, key, Language.PYTHON, category, model)
        except Exception as error:
            return ["crash", type(error).__name__]
        return [True, None] if result["valid"] else [False, result["error_type"]]

    return judge


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="bfcl-") as folder:
        judge = load_peer(folder)
        gc.freeze()
        for line in sys.stdin:
            case = json.loads(line)
            if isinstance(case, list):
                start = time.process_time()
                verdicts = [judge(one) for one in case]
                result = {"cpu": time.process_time() - start, "verdicts": verdicts}
            else:
                result = judge(case)
            print(json.dumps(result), flush=True)
