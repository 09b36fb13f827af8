"""torch reaches the GPUs, cuDNN computes, a CUDA graph replays."""

import torch
import torch.nn.functional as F

from .outcome import Failed, relative_error, require

# float32 rounds at 6e-8; sums of some hundred products, and cuDNN's Winograd transforms, stay below this.
# TF32, were it on, would be at 3e-4.
FLOAT32 = 5e-5
# float16 rounds at 5e-4, TF32 (cuDNN's default in a backward pass) alike.
FLOAT16 = 5e-3


def torch_cuda(gpus):
    """torch sees the GPUs that were given; each computes, copies both ways, and has code for it."""
    require(torch.version.cuda is not None, "torch %s is built without CUDA" % torch.__version__)
    if not torch.cuda.is_available():
        torch.cuda.init()  # raises the reason
        raise Failed("torch.cuda.is_available() says no, and not why")
    seen = torch.cuda.device_count()
    require(seen == gpus, "torch sees %d GPUs; %d were given" % (seen, gpus))
    names = []
    for index in range(gpus):
        torch.manual_seed(index)
        left, right = torch.randn(512, 512), torch.randn(512, 512)
        there = left.pin_memory().to("cuda:%d" % index, non_blocking=True)
        product = (there @ right.to(there.device)).cpu()
        error = relative_error(product, left.double() @ right.double())
        # An image may have switched TF32 on for all programs.
        require(error < FLOAT16, "cuda:%d computes a matrix product %.1e off" % (index, error))
        names.append("%s (%d.%d)" % ((torch.cuda.get_device_name(index),) + torch.cuda.get_device_capability(index)))
    return "torch %s, CUDA %s: %s" % (torch.__version__, torch.version.cuda, ", ".join(names)), {"devices": seen}


def cudnn(gpus):
    """cuDNN's convolution against float64 on the processor; forward in float32 and float16, backward."""
    require(torch.backends.cudnn.is_available(), "torch finds no cuDNN")
    torch.manual_seed(1)
    image, weight = torch.randn(4, 32, 28, 28), torch.randn(48, 32, 3, 3)
    exact_image, exact_weight = image.double().requires_grad_(), weight.double().requires_grad_()
    exact = F.conv2d(exact_image, exact_weight, padding=1)
    exact.backward(torch.ones_like(exact))

    # cuDNN by name: F.conv2d might choose another way. The last word is allow_tf32.
    def convolve(image, weight):
        return torch.cudnn_convolution(image, weight, (1, 1), (1, 1), (1, 1), 1, False, False, False)

    forward = relative_error(convolve(image.cuda(), weight.cuda()).cpu(), exact.detach())
    half = relative_error(convolve(image.cuda().half(), weight.cuda().half()).float().cpu(), exact.detach())
    there_image, there_weight = image.cuda().requires_grad_(), weight.cuda().requires_grad_()
    result = F.conv2d(there_image, there_weight, padding=1)
    result.backward(torch.ones_like(result))
    backward = max(
        relative_error(there_image.grad.cpu(), exact_image.grad),
        relative_error(there_weight.grad.cpu(), exact_weight.grad),
    )
    require(forward < FLOAT32, "float32 forward is %.1e off float64" % forward)
    require(half < FLOAT16, "float16 forward is %.1e off float64" % half)
    require(backward < FLOAT16, "backward is %.1e off float64" % backward)
    figures = {"error_float32": forward, "error_float16": half, "error_backward": backward}
    text = "cuDNN %d: float32 %.1e, float16 %.1e, backward %.1e off float64"
    return text % (torch.backends.cudnn.version(), forward, half, backward), figures


def cuda_graph(gpus):
    """A captured forward pass, replayed on new input, gives what the same code gives eagerly."""
    torch.manual_seed(2)
    layers = [torch.nn.Linear(256, 256), torch.nn.GELU(), torch.nn.Linear(256, 256), torch.nn.LayerNorm(256)]
    model = torch.nn.Sequential(*layers).cuda().eval()
    held = torch.zeros(64, 256, device="cuda")
    with torch.no_grad():
        # Libraries make their workspaces on a side stream first, as torch's manual says.
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                model(held)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = model(held)
        worst = 0.0
        for _ in range(5):
            fresh = torch.randn(64, 256, device="cuda")
            held.copy_(fresh)
            graph.replay()
            torch.cuda.synchronize()
            worst = max(worst, relative_error(result, model(fresh)))
    require(worst < FLOAT32, "a replay is %.1e off the eager result" % worst)
    return "5 replays, at most %.1e off the eager result" % worst, {"error": worst}
