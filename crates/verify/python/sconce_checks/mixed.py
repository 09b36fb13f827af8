"""Training with automatic mixed precision: the loss goes down, and an overflow is survived."""

import torch

from .outcome import NotApplicable, capability, require

STEPS = 60
# The loss must fall below this part of where it began; it ends near a hundredth.
FALL = 0.5


def scaler(initial):
    """torch.amp.GradScaler is of torch 2.3; before it there was one for CUDA only."""
    if hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler("cuda", init_scale=initial)
    return torch.cuda.amp.GradScaler(init_scale=initial)


def train(device, dtype, scale):
    """Losses of a small classifier, trained under autocast; weights stay float32."""
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10)).to(device)
    inputs = torch.randn(512, 64, device=device)
    classes = (inputs @ torch.randn(64, 10, device=device)).argmax(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device_type=device, dtype=dtype):
            scores = model(inputs)
            require(scores.dtype == dtype, "autocast gave %s for %s" % (scores.dtype, dtype))
            loss = torch.nn.functional.cross_entropy(scores.float(), classes)
        if scale is None:
            loss.backward()
            optimizer.step()
        else:
            scale.scale(loss).backward()
            scale.step(optimizer)
            scale.update()
        losses.append(loss.item())
    kinds = {parameter.dtype for parameter in model.parameters()}
    require(kinds == {torch.float32}, "the weights became %s" % kinds)
    return losses, model, optimizer


def went_down(losses):
    first, last = losses[0], losses[-1]
    require(last < FALL * first, "the loss went from %.3f to %.3f in %d steps" % (first, last, STEPS))
    return "loss %.2f to %.3f in %d steps" % (first, last, STEPS), {"loss_first": first, "loss_last": last}


def amp_bf16(gpus):
    """BF16 autocast; on the processor where no GPU was given."""
    if gpus:
        capability((8, 0), "BF16")
    device = "cuda" if gpus else "cpu"
    text, figures = went_down(train(device, torch.bfloat16, None)[0])
    return "%s: %s" % ("GPU" if gpus else "processor (no GPU was given)", text), figures


def amp_fp16(gpus):
    """FP16 autocast with GradScaler; then a gradient that overflows: the step is left out, the scale halved."""
    if not gpus:
        raise NotApplicable("no GPU was given")
    scale = scaler(2.0**12)
    losses, model, optimizer = train("cuda", torch.float16, scale)
    text, figures = went_down(losses)
    before, held = scale.get_scale(), [parameter.detach().clone() for parameter in model.parameters()]
    optimizer.zero_grad(set_to_none=True)
    poisoned = sum(parameter.sum() for parameter in model.parameters()) * float("inf")
    scale.scale(poisoned).backward()
    scale.step(optimizer)
    scale.update()
    same = all(torch.equal(one, other) for one, other in zip(held, model.parameters()))
    require(same, "a step with infinite gradients changed the weights")
    require(scale.get_scale() == before / 2, "after an overflow the scale went from %g to %g" % (before, scale.get_scale()))
    return text + "; an overflow left the weights and halved the scale", figures
